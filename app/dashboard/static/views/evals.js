// All evals, the newest first.
import { EVALS_PATH, get } from "../core/api.js";
import { ago, count, dateTime } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Empty, Problem, Skeleton } from "../ui/parts.js";

const MOST = 100;

export function Evals() {
  const { data, error, reload } = useLoad((signal) => get(EVALS_PATH, { limit: MOST, order: "desc" }, signal), [], 15_000);
  const create = html`<a class="btn primary" href=${link("evals", "new")}><${Icon} name="plus" />New eval</a>`;
  return html`
    <div class="page-head">
      <div>
        <h1>Evals</h1>
        <p>Models' answers to items, graded by criteria; both modes side by side.</p>
      </div>
      <div class="actions">${create}</div>
    </div>
    <section class="card" aria-label="Evals">
      ${error && html`<div style=${{ padding: "14px 18px" }}><${Problem} error=${error} retry=${reload} /></div>`}
      ${data === null && !error ? html`<div style=${{ padding: "18px" }}><${Skeleton} height="76px" /></div>` : data?.data.length ? html`<${Table} rows=${data.data} />` : !error && html`<${Empty} icon="evals" title="No evals yet" action=${create}>An eval has criteria for answers. Each run queries one model in one mode, and runs are compared item by item.<//>`}
      ${data?.has_more && html`<p class="more muted small">The newest ${count(MOST)} are shown.</p>`}
    </section>
  `;
}

function Table({ rows }) {
  return html`<div class="table-box">
    <table class="jobs">
      <thead>
        <tr><th scope="col">Eval</th><th scope="col">Criteria</th><th scope="col" class="right">Created</th></tr>
      </thead>
      <tbody>
        ${rows.map(
          (one) => html`<tr key=${one.id}>
            <td class="job-name"><a href=${link("evals", one.id)}>${one.name}</a></td>
            <td class="soft">${one.testing_criteria.map(({ name }) => name).join(", ")}</td>
            <td class="right muted nowrap job-created" title=${dateTime(one.created_at)}>${ago(one.created_at)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
