// Small parts that several pages share.
import { cls, html, useEffect, useLayoutEffect, useRef, useState } from "../core/html.js";
import { say } from "./toasts.js";
import { Icon } from "./icons.js";

const STATUS = {
  validating_files: ["wait", "Validating"],
  queued: ["idle", "Queued"],
  running: ["live", "Running"],
  pausing: ["wait", "Pausing"],
  paused: ["wait", "Paused"],
  succeeded: ["ok", "Succeeded"],
  failed: ["bad", "Failed"],
  cancelled: ["idle", "Cancelled"],
  // Of experiments and their runs.
  waiting: ["idle", "Waiting"],
  refused: ["bad", "Refused"],
  completed: ["ok", "Completed"],
  out_of_budget: ["wait", "Out of budget"],
  // Of runs of evals and their items.
  in_progress: ["live", "Running"],
  canceled: ["idle", "Canceled"],
  pass: ["ok", "Passed"],
  fail: ["bad", "Failed"],
  error: ["wait", "Not graded"],
};
export const statusName = (status) => STATUS[status]?.[1] ?? status;
export const statusTone = (status) => `tone-${STATUS[status]?.[0] ?? "idle"}`;
export const isOver = (job) => ["succeeded", "failed", "cancelled"].includes(job.status);
export const isActive = (job) => !isOver(job) && job.status !== "paused";

export function Status({ job, pill }) {
  const cancelling = job.cancel_requested && !isOver(job);
  const pulse = ["running", "in_progress", "pausing", "validating_files"].includes(job.status);
  const name = cancelling ? "Cancelling" : statusName(job.status);
  return html`<span class=${cls("status", statusTone(job.status), pulse && "pulse", pill && "pill")}>${name}</span>`;
}

export const MODES = { normal: { label: "N", name: "Normal" }, "high-entropy": { label: "H", name: "High-entropy" } };

/** A mode: its letter in its colour, and its name unless `short`. */
export function Mode({ mode, short }) {
  const { label, name } = MODES[mode];
  return html`<span class=${cls("mode", label.toLowerCase())} title=${short ? `${name} mode` : null}>
    <i aria-hidden=${short ? null : "true"}>${label}</i>${!short && html`<span>${name}</span>`}
  </span>`;
}

/** How much of something is done, in the colour of a status; `share` where it is not `now` of `of`. */
export function Bar({ status, now, of, label, share = of ? now / of : 0 }) {
  return html`<div class=${cls("bar", statusTone(status))} role="progressbar" aria-valuemin="0" aria-valuemax=${of} aria-valuenow=${now} aria-label=${label}>
    <i style=${{ width: `${100 * share}%` }} />
  </div>`;
}

export function Segments({ label, value, options, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(
      ([key, text]) =>
        html`<button type="button" key=${key} aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`,
    )}
  </div>`;
}

/** Pages beside each other: `tabs` are `[name, text]`, and `to(name)` is the address of one. */
export function Tabs({ label, tabs, at, to }) {
  const nav = useRef(null);
  // On a phone they are wider than the page: the one that is open is seen.
  useLayoutEffect(() => {
    const open = nav.current.querySelector("[aria-current]");
    if (open) nav.current.scrollLeft = open.offsetLeft - nav.current.offsetLeft - (nav.current.clientWidth - open.offsetWidth) / 2;
  }, [at]);
  return html`<nav ref=${nav} class="tabs" aria-label=${label}>${tabs.map(([name, text]) => html`<a key=${name} href=${to(name)} aria-current=${at === name ? "page" : null}>${text}</a>`)}</nav>`;
}

export function Empty({ icon = "empty", title, children, action }) {
  return html`<div class="empty">
    <${Icon} name=${icon} />
    <h2>${title}</h2>
    ${children && html`<p>${children}</p>`} ${action}
  </div>`;
}

export function Problem({ error, retry }) {
  return html`<div class="note tone-bad" role="alert">
    <${Icon} name="bad" />
    <span class="grow">${error.message}</span>
    ${retry && html`<button type="button" class="btn tight" onClick=${retry}>Try again</button>`}
  </div>`;
}

export function Skeleton({ height = "1em", width = "100%" }) {
  return html`<div class="skeleton" style=${{ height, width }} />`;
}

export function Field({ label, hint, error, children, id }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children} ${error ? html`<span class="wrong" id=${`${id}-error`}>${error}</span>` : hint && html`<span class="hint">${hint}</span>`}
  </div>`;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied");
  } catch {
    say("The browser does not allow copying here");
  }
}

/** An identifier in mono that can be copied. */
export function Id({ value }) {
  return html`<button type="button" class="btn quiet tight mono" title="Copy" onClick=${() => copy(value)}>
    ${value}<${Icon} name="copy" />
  </button>`;
}

/** A native modal dialog; Escape and, unless it is `firm`, the backdrop close it. */
export function Dialog({ title, onClose, firm, children }) {
  const box = useRef(null);
  useEffect(() => box.current.showModal(), []);
  return html`<dialog
    ref=${box}
    aria-labelledby="dialog-title"
    onClose=${onClose}
    onClick=${(event) => !firm && event.target === box.current && box.current.close()}
  >
    <div class="stack">
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </div>
  </dialog>`;
}

/** A button that asks once more before it acts. */
export function Confirm({ children, question, confirm, onConfirm, kind = "danger" }) {
  const [open, setOpen] = useState(false);
  return html`<button type="button" class="btn ${kind}" onClick=${() => setOpen(true)}>${children}</button>
    ${open &&
    html`<${Dialog} title=${confirm} onClose=${() => setOpen(false)}>
      <p class="soft">${question}</p>
      <div class="row" style=${{ justifyContent: "flex-end" }}>
        <button type="button" class="btn" onClick=${(event) => event.target.closest("dialog").close()}>Keep it</button>
        <button
          type="button"
          class="btn primary"
          onClick=${(event) => {
            event.target.closest("dialog").close();
            onConfirm();
          }}
        >
          ${confirm}
        </button>
      </div>
    <//>`}`;
}
