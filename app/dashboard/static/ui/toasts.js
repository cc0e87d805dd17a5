// Short messages at the edge of the page, announced to screen readers.
import { Store, useStore } from "../core/store.js";
import { html } from "../core/html.js";

const toasts = new Store([]);
let next = 0;

export function say(text) {
  const id = next++;
  toasts.set([...toasts.get(), { id, text }]);
  setTimeout(() => toasts.set(toasts.get().filter((one) => one.id !== id)), 5000);
}

export function Toasts() {
  const all = useStore(toasts);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${all.map(({ id, text }) => html`<div key=${id} class="toast">${text}</div>`)}
  </div>`;
}
