// One run of an eval: how far it is, what it came to, and what it made of each item.
import { evalPath, get, post, remove } from "../core/api.js";
import { count, dateTime } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { go, link } from "../core/router.js";
import { Items } from "../evals/items.js";
import { Asked, ItemsDone, isEnded, isUnderWay, passedShare } from "../evals/names.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Id, Problem, Skeleton, Status } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

export function EvalRun({ of, id, query }) {
  const asked = useLoad((signal) => get(evalPath(of, id), {}, signal), [of, id], (run) => (run && isUnderWay(run) ? 2000 : 0));
  if (asked.error && !asked.data) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const run = asked.data;
  const counts = run.result_counts;
  return html`
    <${Head} of=${of} run=${run} reload=${asked.reload} />
    ${run.error && html`<div style=${{ marginBottom: "16px" }}><${Problem} error=${run.error} /></div>`}
    <section class="card pad experiment-facts" aria-label="Progress">
      <${Status} job=${run} pill />
      <div class="grow"><${ItemsDone} run=${run} /></div>
      <dl class="eval-counts">
        ${[["Pass", passedShare(counts)], ["Passed", count(counts.passed)], ["Failed", count(counts.failed)], ["Not graded", count(counts.errored)]].map(([name, text]) => html`<div key=${name}><dt class="tiny muted">${name}</dt><dd class="num">${text}</dd></div>`)}
      </dl>
    </section>
    <${Items} of=${of} run=${run} status=${query.get("status") ?? ""} />
  `;
}

function Head({ of, run, reload }) {
  const act = (action, said) => async () => {
    try {
      await (action === "delete" ? remove(evalPath(of, run.id)) : post(evalPath(of, run.id, `/${action}`)));
      say(said);
      if (action === "delete") go("evals", of);
      else reload();
    } catch (error) {
      say(error.message);
    }
  };
  return html`
    <p class="crumb"><a href=${link("evals")}>Evals</a> / <a href=${link("evals", of)}>Eval</a> / <${Id} value=${run.id} /></p>
    <div class="page-head">
      <div>
        <h1>${run.name}</h1>
        <p><${Asked} run=${run} /><span class="small">${dateTime(run.created_at)} · seed ${run.seed}</span></p>
      </div>
      <div class="actions">
        ${["queued", "in_progress"].includes(run.status) && html`<button type="button" class="btn" onClick=${act("pause", "Pausing the run")}><${Icon} name="pause" />Pause</button>`}
        ${run.status === "paused" && html`<button type="button" class="btn" onClick=${act("resume", "The run continues")}><${Icon} name="play" />Resume</button>`}
        ${isEnded(run)
          ? html`<${Confirm} confirm="Delete the run" question="This also deletes its results for each item." onConfirm=${act("delete", "The run was deleted")}>Delete<//>`
          : html`<${Confirm} confirm="Cancel the run" question="No further items are run. Finished ones are kept." onConfirm=${act("cancel", "Canceling the run")}><${Icon} name="stop" />Cancel<//>`}
      </div>
    </div>
  `;
}
