// All experiments, live.
import { EXPERIMENTS_PATH, get } from "../core/api.js";
import { ago, count, dateTime } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { ProgressOf, sizeOf } from "../experiments/names.js";
import { Icon } from "../ui/icons.js";
import { Empty, Problem, Skeleton, Status } from "../ui/parts.js";

const MOST = 100;

export function Experiments() {
  const { data, error, reload } = useLoad(
    async (signal) => get(EXPERIMENTS_PATH, { limit: MOST }, signal),
    [],
    (found) => (found?.data.some((one) => one.status === "running") ? 2500 : 10_000),
  );
  return html`
    <div class="page-head">
      <div>
        <h1>Experiments</h1>
        <p>Arms on tasks with several seeds, and what their differences show.</p>
      </div>
      <div class="actions">
        <a class="btn primary" href=${link("experiments", "new")}><${Icon} name="plus" />New experiment</a>
      </div>
    </div>
    <section class="card" aria-label="Experiments">
      ${error && html`<div style=${{ padding: "14px 18px" }}><${Problem} error=${error} retry=${reload} /></div>`}
      ${data === null && !error ? html`<div style=${{ padding: "18px" }}><${Skeleton} height="76px" /></div>` : data?.data.length ? html`<${Table} rows=${data.data} />` : !error && html`<${Nothing} />`}
      ${data?.has_more && html`<p class="more muted small">The newest ${count(MOST)} are shown.</p>`}
    </section>
  `;
}

function Table({ rows }) {
  return html`<div class="table-box">
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col">Experiment</th>
          <th scope="col">Status</th>
          <th scope="col">Runs</th>
          <th scope="col" class="right">Created</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (one) => html`<tr key=${one.id}>
            <td class="job-name">
              <a href=${link("experiments", one.id)}>${one.name}</a>
              <span class="muted tiny ellipsis">${sizeOf(one)}</span>
            </td>
            <td class="job-status"><${Status} job=${one} /></td>
            <td class="job-progress"><${ProgressOf} experiment=${one} /></td>
            <td class="right muted nowrap job-created" title=${dateTime(one.created_at)}>${ago(one.created_at)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Nothing() {
  return html`<${Empty} icon="experiments" title="No experiments yet" action=${html`<a class="btn primary" href=${link("experiments", "new")}><${Icon} name="plus" />Create the first experiment</a>`}>
    An experiment runs several methods on the same tasks with the same seeds, and says which differences are more than chance.
  <//>`;
}
