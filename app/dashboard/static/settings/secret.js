// A secret that is shown this once.
import { html } from "../core/html.js";
import { Icon } from "../ui/icons.js";
import { Dialog, copy } from "../ui/parts.js";

/** Only Escape and the button close it: a click beside it would lose what is nowhere else. */
export function Secret({ title, secret, onClose, children }) {
  return html`<${Dialog} title=${title} onClose=${onClose} firm>
    <p class="soft small">Copy it now: it is shown only once, and nobody can look it up.</p>
    <code class="secret" aria-label="Secret">${secret}</code>
    ${children}
    <div class="row" style=${{ justifyContent: "flex-end" }}>
      <button type="button" class="btn" onClick=${(event) => event.target.closest("dialog").close()}>Done</button>
      <button type="button" class="btn primary" autofocus onClick=${() => copy(secret)}><${Icon} name="copy" />Copy</button>
    </div>
  <//>`;
}
