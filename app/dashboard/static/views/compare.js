// Several runs on the same charts, what they differ in, and how they ended.
import { get, jobPath, JOBS_PATH } from "../core/api.js";
import { ago, count, number } from "../core/format.js";
import { cls, html, useEffect, useMemo, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { Chart } from "../charts/chart.js";
import { newGroup } from "../charts/group.js";
import { CompareSource, chartsOf, tokenAt } from "../compare/source.js";
import { differences } from "../compare/differences.js";
import { algorithmOf, jobName } from "../jobs/names.js";
import { Empty, Problem, Skeleton, Status } from "../ui/parts.js";

const MOST = 7;
const FINAL = [
  ["train/N/reward", "Reward N"],
  ["train/H/reward", "Reward H"],
  ["eval/N/reward", "Validation N"],
  ["eval/H/reward", "Validation H"],
  ["train/N/entropy_nats", "Entropy N, nats"],
  ["train/H/entropy_nats", "Entropy H, nats"],
  ["diag/kl_H_N/prefix_H", "KL(H‖N), nats"],
  ["train/step_seconds", "Step, s"],
];

export function Compare({ query }) {
  const ids = (query.get("jobs") ?? "").split(",").filter(Boolean).slice(0, MOST);
  const recent = useLoad(async (signal) => (await get(JOBS_PATH, { limit: 50 }, signal)).data, []);
  const chosen = useLoad(async (signal) => Promise.all(ids.map((id) => get(jobPath(id), {}, signal))), [ids.join()]);
  const jobs = (chosen.data ?? []).filter((job) => ids.includes(job.id));
  const toggle = (id) => setQuery({ jobs: (ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id]).join(",") });
  return html`
    <div class="page-head">
      <div>
        <h1>Compare</h1>
        <p>Up to seven runs on the same charts. A colour is a run; solid lines are the normal mode, dashed ones the high-entropy mode.</p>
      </div>
    </div>
    ${(recent.error ?? chosen.error) && html`<${Problem} error=${recent.error ?? chosen.error} />`}
    <${Picker} jobs=${recent.data} ids=${ids} toggle=${toggle} />
    ${ids.length === 0
      ? recent.data?.length !== 0 && html`<div class="card" style=${{ marginTop: "16px" }}><${Empty} icon="compare" title="Choose runs to compare">Tick two or more runs above: their curves are laid over each other here.<//></div>`
      : jobs.length
        ? html`<${Overlay} key=${jobs.map((job) => job.id).join()} jobs=${jobs} />`
        : !chosen.error && html`<${Skeleton} height="320px" />`}
  `;
}

function Picker({ jobs, ids, toggle }) {
  if (jobs === null) return html`<${Skeleton} height="120px" />`;
  if (!jobs.length) return html`<div class="card"><${Empty} title="No jobs yet" action=${html`<a class="btn primary" href=${link("jobs", "new")}>Create the first job</a>`}>There is nothing to compare so far.<//></div>`;
  return html`<fieldset class="card picker">
    <legend class="sr">Runs to compare</legend>
    ${jobs.map((job) => {
      const at = ids.indexOf(job.id);
      return html`<label key=${job.id} class=${cls("pick", at >= 0 && "chosen")} style=${{ "--run": at >= 0 ? `var(${tokenAt(at)})` : "transparent" }}>
        <input type="checkbox" checked=${at >= 0} disabled=${at < 0 && ids.length >= MOST} onChange=${() => toggle(job.id)} />
        <i class="swatch" />
        <span class="grow ellipsis"><b>${jobName(job)}</b> <span class="muted tiny">${algorithmOf(job)} · ${ago(job.created_at)}</span></span>
        <${Status} job=${job} />
      </label>`;
    })}
  </fieldset>`;
}

function Overlay({ jobs }) {
  const group = useMemo(newGroup, []);
  const source = useMemo(() => new CompareSource(jobs.map((job) => job.id)), []);
  const [names, setNames] = useState(null);
  const settings = useMemo(() => ({ reach: 0, log: false, unit: "nats" }), []);
  useEffect(() => {
    source.open().then(() => setNames(source.names()), () => setNames([]));
    const stop = group.range.subscribe((range) => source.refine(range));
    return () => {
      stop();
      source.close();
    };
  }, []);
  const charts = names === null ? [] : chartsOf(jobs, source);
  return html`
    <div class="section-title"><h2>Curves</h2><p>Drag to zoom, double-click to see all.</p></div>
    ${names === null ? html`<${Skeleton} height="268px" />` : html`<div class="charts">${charts.map((spec) => html`<${Chart} key=${spec.id} spec=${spec} source=${source} group=${group} settings=${settings} />`)}</div>`}
    <div class="section-title"><h2>Final metrics</h2><p>The last value of each series.</p></div>
    ${names === null ? html`<${Skeleton} height="120px" />` : html`<${Finals} jobs=${jobs} source=${source} />`}
    <div class="section-title"><h2>Configuration</h2></div>
    <${Differences} jobs=${jobs} />
  `;
}

function RunName({ job, index }) {
  return html`<span class="row" style=${{ "--run": `var(${tokenAt(index)})` }}><i class="swatch" /><a href=${link("jobs", job.id)}>${jobName(job)}</a></span>`;
}

function Finals({ jobs, source }) {
  const columns = FINAL.filter(([name]) => jobs.some((job) => source.last(job.id, name) !== undefined));
  return html`<div class="card table-box" tabindex="0" role="region" aria-label="Final metrics">
    <table>
      <thead><tr><th>Run</th><th class="right">Steps</th>${columns.map(([name, text]) => html`<th key=${name} class="right">${text}</th>`)}</tr></thead>
      <tbody>
        ${jobs.map(
          (job, i) => html`<tr key=${job.id}>
            <td class="run-name"><${RunName} job=${job} index=${i} /></td>
            <td class="right num">${count(job.progress.step)}</td>
            ${columns.map(([name]) => html`<td key=${name} class=${cls("right num", source.last(job.id, name) === undefined && "muted")}>${number(source.last(job.id, name))}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Differences({ jobs }) {
  const [all, setAll] = useState(false);
  const rows = useMemo(() => differences(jobs), [jobs]);
  const shown = rows.filter((row) => all || row.differs);
  return html`<div class="card">
    <div class="card-head">
      <span class="small muted">${rows.filter((row) => row.differs).length} of ${rows.length} settings differ</span>
      <label class="check"><input type="checkbox" checked=${all} onChange=${(event) => setAll(event.target.checked)} />Show equal ones</label>
    </div>
    ${shown.length === 0
      ? html`<p class="muted small" style=${{ padding: "18px" }}>${jobs.length < 2 ? "Choose another run to see what differs." : "These runs have the same configuration."}</p>`
      : html`<div class="table-box" tabindex="0" role="region" aria-label="Configuration">
          <table>
            <thead><tr><th>Setting</th>${jobs.map((job, i) => html`<th key=${job.id}><${RunName} job=${job} index=${i} /></th>`)}</tr></thead>
            <tbody>
              ${shown.map(
                (row) => html`<tr key=${row.path} class=${cls(row.differs && "differs")}>
                  <td class="mono">${row.path}</td>
                  ${row.values.map((value, i) => html`<td key=${i} class=${cls("mono config-value", value === undefined && "muted")}>${value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value)}</td>`)}
                </tr>`,
              )}
            </tbody>
          </table>
        </div>`}
  </div>`;
}
