// One eval: its runs, and those that are chosen side by side.
import { evalPath, get, remove } from "../core/api.js";
import { ago, count, dateTime, number } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { go, link, setQuery } from "../core/router.js";
import { Compared } from "../evals/compared.js";
import { Asked, ItemsDone, isUnderWay, passedShare } from "../evals/names.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Empty, Id, Problem, Skeleton, Status } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const MOST = 100;
/** As many as the API compares. */
const COMPARED = 10;

export function EvalPage({ id, query }) {
  const asked = useLoad((signal) => get(evalPath(id), {}, signal), [id]);
  const runs = useLoad(
    async (signal) => (await get(`${evalPath(id)}/runs`, { limit: MOST, order: "desc" }, signal)).data,
    [id],
    (found) => (found?.some(isUnderWay) ? 2500 : 15_000),
  );
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const all = runs.data ?? [];
  const named = query.get("runs")?.split(",");
  // The oldest completed ones unless others are chosen: the first is what the others are compared with.
  const chosen = (named ? named.filter((one) => all.some((run) => run.id === one)) : all.filter((run) => run.status === "completed").map((run) => run.id).reverse()).slice(0, COMPARED);
  const done = all.reduce((sum, run) => sum + run.progress.items, 0);
  const create = html`<a class="btn primary" href=${link("evals", id, "runs", "new")}><${Icon} name="plus" />New run</a>`;
  return html`
    <${Head} made=${asked.data} create=${create} />
    ${runs.error && html`<${Problem} error=${runs.error} retry=${runs.reload} />`}
    ${runs.data &&
    (all.length
      ? html`<${Runs} made=${asked.data} runs=${all} chosen=${chosen} />
          ${chosen.length > 0 && html`<${Compared} id=${id} runs=${chosen} metric=${query.get("metric") ?? "passed"} criteria=${asked.data.testing_criteria} done=${done} />`}`
      : html`<section class="card"><${Empty} icon="evals" title="No runs yet" action=${create}>A run queries one model in one mode, or grades existing answers.<//></section>`)}
  `;
}

function Head({ made, create }) {
  const removal = async () => {
    try {
      await remove(evalPath(made.id));
      go("evals");
    } catch (error) {
      say(error.message);
    }
  };
  return html`
    <p class="crumb"><a href=${link("evals")}>Evals</a> / <${Id} value=${made.id} /></p>
    <div class="page-head">
      <div>
        <h1>${made.name}</h1>
        <p>${made.testing_criteria.map((one) => (one.pass_threshold === undefined ? one.name : `${one.name} ≥ ${number(one.pass_threshold)}`)).join(" · ")} · ${dateTime(made.created_at)}</p>
      </div>
      <div class="actions">
        ${create}
        <${Confirm} confirm="Delete the eval" question="This also deletes its runs and their results for each item." onConfirm=${removal}>Delete<//>
      </div>
    </div>
  `;
}

function Runs({ made, runs, chosen }) {
  const choose = (id) => setQuery({ runs: (chosen.includes(id) ? chosen.filter((one) => one !== id) : [...chosen, id]).join(",") });
  return html`<section class="card table-box" tabindex="0" role="region" aria-label="Runs">
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col" class="job-check" aria-label="Compared"></th>
          <th scope="col">Run</th>
          <th scope="col">Status</th>
          <th scope="col">Items</th>
          <th scope="col" class="right">Pass</th>
          ${made.testing_criteria.map(({ name }) => html`<th key=${name} scope="col" class="right">${name}</th>`)}
          <th scope="col" class="right">Errors</th>
          <th scope="col" class="right">Created</th>
        </tr>
      </thead>
      <tbody>
        ${runs.map(
          (run) => html`<tr key=${run.id}>
            <td class="job-check"><input type="checkbox" aria-label=${`Compare ${run.name}`} checked=${chosen.includes(run.id)} disabled=${!chosen.includes(run.id) && chosen.length >= COMPARED} onChange=${() => choose(run.id)} /></td>
            <td class="job-name"><a href=${link("evals", made.id, "runs", run.id)}>${run.name}</a><span class="tiny muted"><${Asked} run=${run} /></span></td>
            <td class="job-status"><${Status} job=${run} /></td>
            <td class="job-progress"><${ItemsDone} run=${run} /></td>
            <td class="right num" data-label="Pass">${passedShare(run.result_counts)}</td>
            ${run.per_testing_criteria_results.map((one) => html`<td key=${one.testing_criteria} class="right num" data-label=${one.testing_criteria} title="Mean score">${one.mean_score === null ? "–" : number(one.mean_score)}</td>`)}
            <td class="right num" data-label="Errors">${count(run.result_counts.errored)}</td>
            <td class="right muted nowrap job-created" title=${dateTime(run.created_at)}>${ago(run.created_at)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}
