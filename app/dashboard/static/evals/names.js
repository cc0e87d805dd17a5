// What runs of evals are called by, and how far they are.
import { count, percent } from "../core/format.js";
import { html } from "../core/html.js";
import { Bar, Mode } from "../ui/parts.js";

export const isUnderWay = (run) => ["queued", "in_progress", "pausing"].includes(run.status);
export const isEnded = (run) => ["completed", "failed", "canceled"].includes(run.status);

/** The model and its mode; of answers that were given, that they were. */
export function Asked({ run }) {
  if (!run.model) return html`<span class="muted">Answers as given</span>`;
  return html`<span class="row asked">${run.mode && html`<${Mode} mode=${run.mode} short />`}<span class="ellipsis" title=${run.model}>${run.model}</span></span>`;
}

/** How many items are done, as a bar and in words. */
export function ItemsDone({ run }) {
  const { items, total_items: total } = run.progress;
  return html`<span class="num tiny soft">${count(items)}<span class="muted"> / ${count(total)}</span></span>
    <${Bar} status=${run.status} now=${items} of=${total} label="Items that are done" />`;
}

/** The share of items that pass, of those that are known. */
export function passedShare({ passed, failed }) {
  return passed + failed ? percent(passed / (passed + failed)) : "–";
}
