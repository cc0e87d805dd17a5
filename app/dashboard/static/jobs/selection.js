// What can be done with several jobs at once.
import { jobPath, post, remove } from "../core/api.js";
import { plural } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Confirm, isOver } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

/** How many runs Compare takes. */
const MOST = 7;

/** `jobs`: those chosen; `onDone()` after something was done with them. */
export function Selection({ jobs, onDone, onClear }) {
  const [busy, setBusy] = useState(false);
  const open = jobs.filter((job) => !isOver(job) && !job.cancel_requested);
  const over = jobs.filter(isOver);
  const each = async (chosen, act, done) => {
    setBusy(true);
    const results = await Promise.allSettled(chosen.map(act));
    const failed = results.filter((one) => one.status === "rejected");
    say(failed.length ? `${failed.length} of ${plural(chosen.length, "job")}: ${failed[0].reason.message}` : `${done} ${plural(chosen.length, "job")}`);
    setBusy(false);
    onDone();
  };
  return html`<div class="selection" role="region" aria-label="Selected jobs">
    <b class="small">${plural(jobs.length, "job")} selected</b>
    ${jobs.length > 1 && jobs.length <= MOST && html`<a class="btn tight" href=${link("compare", { jobs: jobs.map((job) => job.id).join(",") })}><${Icon} name="compare" />Compare</a>`}
    ${jobs.length > MOST && html`<span class="tiny muted">Compare takes up to ${MOST}.</span>`}
    ${open.length > 0 && html`<${Confirm} kind="danger tight" confirm=${`Cancel ${plural(open.length, "job")}`} question="A cancelled job cannot be resumed." onConfirm=${() => each(open, (job) => post(jobPath(job.id, "/cancel")), "Cancelling")}><${Icon} name="stop" />Cancel ${open.length}<//>`}
    ${over.length > 0 && html`<${Confirm} kind="danger tight" confirm=${`Delete ${plural(over.length, "job")}`} question="This also deletes their checkpoints, results, metrics and rollouts, for good." onConfirm=${() => each(over, (job) => remove(jobPath(job.id)), "Deleted")}><${Icon} name="bad" />Delete ${over.length}<//>`}
    <span class="grow" />
    <button type="button" class="btn quiet tight" disabled=${busy} onClick=${onClear}>Clear</button>
  </div>`;
}
