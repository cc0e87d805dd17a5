// Several runs on the same charts, what they differ in, and how they ended.
import { get, jobPath, JOBS_PATH } from "../core/api.js";
import { ago, count, number, plural } from "../core/format.js";
import { cls, html, useEffect, useMemo, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { Chart } from "../charts/chart.js";
import { newGroup } from "../charts/group.js";
import { CompareSource, chartsOf, tokenAt } from "../compare/source.js";
import { differences } from "../compare/differences.js";
import { finals } from "../compare/finals.js";
import { algorithmOf, jobName } from "../jobs/names.js";
import { Icon } from "../ui/icons.js";
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
  const [text, setText] = useState("");
  const search = useSettled(text.trim().slice(0, 200), 250);
  const recent = useLoad(async (signal) => (await get(JOBS_PATH, { limit: 50, search }, signal)).data, [search]);
  const chosen = useLoad((signal) => Promise.all(ids.map((id) => find(id, signal))), [ids.join()]);
  const known = (chosen.data ?? []).filter(({ id }) => ids.includes(id));
  const jobs = known.map(({ job }) => job).filter(Boolean);
  const toggle = (id) => setQuery({ jobs: (ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id]).join(",") });
  return html`
    <div class="page-head">
      <div>
        <h1>Compare</h1>
        <p>Up to seven runs on the same charts. Each run has a colour; solid lines are the normal mode, dashed ones the high-entropy mode.</p>
      </div>
    </div>
    ${(recent.error ?? chosen.error) && html`<${Problem} error=${recent.error ?? chosen.error} />`}
    <${Chips} known=${known} jobs=${jobs} toggle=${toggle} />
    <${Picker} jobs=${recent.data} ids=${ids} toggle=${toggle} text=${text} setText=${setText} shown=${jobs} />
    ${ids.length === 0
      ? recent.data?.length !== 0 && html`<div class="card" style=${{ marginTop: "16px" }}><${Empty} icon="compare" title="Choose runs to compare">Select two or more runs above to overlay their curves here.<//></div>`
      : jobs.length
        ? html`<${Overlay} key=${jobs.map((job) => job.id).join()} jobs=${jobs} />`
        : chosen.loading && html`<${Skeleton} height="320px" />`}
  `;
}

/** `{id, job, error}` of a run; where there is none of that id, the others are shown all the same. */
async function find(id, signal) {
  try {
    return { id, job: await get(jobPath(id), {}, signal), error: null };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { id, job: null, error };
  }
}

/** The runs that are compared, each to be taken out. */
function Chips({ known, jobs, toggle }) {
  if (!known.length) return null;
  return html`<ul class="chips" aria-label="Compared runs">
    ${known.map(({ id, job, error }) => {
      const name = job ? jobName(job) : id;
      return html`<li key=${id} class=${cls("chip", !job && "unknown")} title=${error?.message} style=${{ "--run": job ? `var(${tokenAt(jobs.indexOf(job))})` : "transparent" }}>
        ${job ? html`<i class="swatch" /><a href=${link("jobs", id)}>${name}</a>` : html`<span>unknown: <span class="mono">${id}</span></span>`}
        <button type="button" aria-label=${`Remove ${name}`} onClick=${() => toggle(id)}>×</button>
      </li>`;
    })}
  </ul>`;
}

function Picker({ jobs, ids, toggle, text, setText, shown }) {
  if (jobs === null) return html`<${Skeleton} height="120px" />`;
  if (!jobs.length && !text) return html`<div class="card"><${Empty} title="No jobs yet" action=${html`<a class="btn primary" href=${link("jobs", "new")}>Create the first job</a>`}>There is nothing to compare yet.<//></div>`;
  return html`<section class="card" aria-label="Choose runs">
    <div class="card-head"><label class="search"><${Icon} name="search" /><span class="sr">Search runs</span><input class="input" type="search" placeholder="Name, model, tag …" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    <span class="small muted">${count(ids.length)} of ${MOST}</span></div>
    ${!jobs.length && html`<p class="muted small" style=${{ padding: "14px 18px" }}>No matching jobs</p>`}
    <fieldset class="picker">
    <legend class="sr">Runs to compare</legend>
    ${jobs.map((job) => {
      const at = shown.findIndex((one) => one.id === job.id);
      return html`<label key=${job.id} class=${cls("pick", at >= 0 && "chosen")} style=${{ "--run": at >= 0 ? `var(${tokenAt(at)})` : "transparent" }}>
        <input type="checkbox" checked=${ids.includes(job.id)} disabled=${!ids.includes(job.id) && ids.length >= MOST} onChange=${() => toggle(job.id)} />
        <i class="swatch" />
        <span class="grow ellipsis"><b>${jobName(job)}</b> <span class="muted tiny">${algorithmOf(job)} · ${ago(job.created_at)}</span></span>
        <${Status} job=${job} />
      </label>`;
    })}
    </fieldset>
  </section>`;
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
    <div class="section-title"><h2>Curves</h2><p>Drag to zoom, double-click to reset.</p></div>
    ${names === null ? html`<${Skeleton} height="268px" />` : html`<div class="charts">${charts.map((spec) => html`<${Chart} key=${spec.id} spec=${spec} source=${source} group=${group} settings=${settings} />`)}</div>`}
    <div class="section-title"><h2>Final metrics</h2><p>Mean over the last tenth of a run's steps ± standard deviation of its points.</p></div>
    ${names === null ? html`<${Skeleton} height="120px" />` : html`<${Finals} jobs=${jobs} />`}
    <div class="section-title"><h2>Configuration</h2></div>
    <${Differences} jobs=${jobs} />
  `;
}

function RunName({ job, index }) {
  return html`<span class="row" style=${{ "--run": `var(${tokenAt(index)})` }}><i class="swatch" /><a href=${link("jobs", job.id)}>${jobName(job)}</a></span>`;
}

function Finals({ jobs }) {
  const { data, error, reload } = useLoad((signal) => Promise.all(jobs.map((job) => finals(job, FINAL.map(([name]) => name), signal))), []);
  if (error) return html`<${Problem} error=${error} retry=${reload} />`;
  if (!data) return html`<${Skeleton} height="120px" />`;
  const columns = FINAL.filter(([name]) => data.some((of) => of.has(name)));
  return html`<div class="card table-box" tabindex="0" role="region" aria-label="Final metrics">
    <table>
      <thead><tr><th>Run</th><th class="right">Steps</th>${columns.map(([name, text]) => html`<th key=${name} class="right">${text}</th>`)}</tr></thead>
      <tbody>
        ${jobs.map(
          (job, i) => html`<tr key=${job.id}>
            <td class="run-name"><${RunName} job=${job} index=${i} /></td>
            <td class="right num">${count(job.progress.step)}</td>
            ${columns.map(([name]) => html`<td key=${name} class="right num nowrap"><${Final} of=${data[i].get(name)} /></td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Final({ of }) {
  if (!of) return html`<span class="muted">–</span>`;
  return html`<span title=${plural(of.points, "point")}>${number(of.mean)}${of.deviation !== null && html` <span class="muted">± ${number(of.deviation, 2)}</span>`}</span>`;
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
