// All jobs, live.
import { get, JOBS_PATH } from "../core/api.js";
import { ago, count, dateTime, number } from "../core/format.js";
import { html, useLayoutEffect, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { algorithmOf, jobName, share, timing } from "../jobs/names.js";
import { useSparks } from "../jobs/sparks.js";
import { Icon } from "../ui/icons.js";
import { Bar, Empty, Problem, Segments, Skeleton, Status, isActive } from "../ui/parts.js";
import { Spark } from "../ui/spark.js";

const PAGE = 25;
const FILTERS = {
  all: [],
  active: ["validating_files", "queued", "running", "pausing", "paused"],
  succeeded: ["succeeded"],
  failed: ["failed"],
  cancelled: ["cancelled"],
};
const NAMES = Object.keys(FILTERS).map((key) => [key, key[0].toUpperCase() + key.slice(1)]);

export function Jobs({ query }) {
  const filter = query.get("status") in FILTERS ? query.get("status") : "all";
  const text = query.get("q") ?? "";
  const [pages, setPages] = useState(1);
  const box = useRef(null);
  const { data, error, loading, reload } = useLoad(
    (signal) => list(FILTERS[filter], pages, signal),
    [filter, pages],
    (found) => (found?.jobs.some(isActive) ? 2500 : 10_000),
  );
  // With the first paint and not after it: who sees the page may press the key.
  useLayoutEffect(() => {
    const slash = (event) => {
      if (event.key !== "/" || event.target.closest?.("input, textarea, select, [contenteditable]")) return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);
  const jobs = (data?.jobs ?? []).filter((job) => matches(job, text));
  const spark = useSparks(jobs);
  return html`
    <div class="page-head">
      <div>
        <h1>Jobs</h1>
        <p>Reinforcement fine-tuning runs, newest first.</p>
      </div>
      <div class="actions">
        <a class="btn primary" href=${link("jobs", "new")}><${Icon} name="plus" />New job</a>
      </div>
    </div>
    <section class="card" aria-label="Jobs">
      <div class="card-head">
        <${Segments} label="Status" value=${filter} options=${NAMES} onChange=${(status) => setQuery({ status: status === "all" ? "" : status })} />
        <label class="search">
          <${Icon} name="search" /><span class="sr">Filter by name, model or id</span>
          <input ref=${box} class="input" type="search" placeholder="Name, model, id …" value=${text} onInput=${(event) => setQuery({ q: event.target.value })} />
        </label>
      </div>
      ${error && html`<div style=${{ padding: "14px 18px" }}><${Problem} error=${error} retry=${reload} /></div>`}
      ${data === null && !error ? html`<${Waiting} />` : jobs.length ? html`<${Table} jobs=${jobs} spark=${spark} />` : !error && html`<${Nothing} filtered=${filter !== "all" || text} />`}
      ${data?.more &&
      html`<div class="more">
        <button type="button" class="btn" disabled=${loading} onClick=${() => setPages(pages + 1)}>Show more</button>
      </div>`}
    </section>
  `;
}

async function list(status, pages, signal) {
  const jobs = [];
  let more = false;
  for (let i = 0; i < pages; i++) {
    const page = await get(JOBS_PATH, { limit: PAGE, after: jobs.at(-1)?.id, status }, signal);
    jobs.push(...page.data);
    more = page.has_more;
    if (!more) break;
  }
  return { jobs, more };
}

function matches(job, text) {
  const words = [job.id, jobName(job), job.model, job.fine_tuned_model ?? "", algorithmOf(job)].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => words.includes(word));
}

function Table({ jobs, spark }) {
  return html`<div class="table-box">
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">Status</th>
          <th scope="col">Progress</th>
          <th scope="col">Reward <span class="is-n">N</span> <span class="is-h">H</span></th>
          <th scope="col" class="right">Time</th>
          <th scope="col" class="right">Attempts</th>
          <th scope="col" class="right">Created</th>
        </tr>
      </thead>
      <tbody>
        ${jobs.map((job) => html`<${Row} key=${job.id} job=${job} series=${spark(job.id)} />`)}
      </tbody>
    </table>
  </div>`;
}

function Row({ job, series }) {
  const { step, total_steps: total } = job.progress;
  const [what, time] = timing(job);
  const last = (series ?? []).map(({ mode, values }) => [mode, values.at(-1)]).filter(([, value]) => value !== undefined);
  return html`<tr>
    <td class="job-name">
      <a href=${link("jobs", job.id)}>${jobName(job)}</a>
      <span class="muted tiny ellipsis">${job.model} · ${algorithmOf(job)}</span>
    </td>
    <td class="job-status">
      <${Status} job=${job} />
      ${job.error?.message && html`<span class="muted tiny ellipsis" title=${job.error.message}>${job.error.message}</span>`}
    </td>
    <td class="job-progress">
      <span class="num tiny soft">${count(step)}<span class="muted"> / ${count(total)}</span></span>
      <${Bar} status=${job.status} now=${step} of=${total} share=${share(job)} label="Steps" />
    </td>
    <td class="job-reward">
      <div class="row">
        ${series ? html`<${Spark} series=${series} label="Reward" />` : step > 0 ? html`<${Skeleton} height="20px" width="108px" />` : html`<span class="muted">–</span>`}
        <span class="num tiny" style=${{ display: "grid" }}>
          ${last.map(([mode, value]) => html`<span key=${mode} class=${`is-${mode}`}>${number(value, 2)}</span>`)}
        </span>
      </div>
    </td>
    <td class="right num job-time">${time !== "–" && html`<span class="muted tiny">${what} </span>`}${time}</td>
    <td class="right num job-attempts">${job.attempt}</td>
    <td class="right muted nowrap job-created" title=${dateTime(job.created_at)}>${ago(job.created_at)}</td>
  </tr>`;
}

function Waiting() {
  return html`<div class="stack" style=${{ padding: "18px" }} aria-busy="true" aria-label="Loading">
    ${[0, 1, 2, 3].map((i) => html`<${Skeleton} key=${i} height="38px" />`)}
  </div>`;
}

function Nothing({ filtered }) {
  if (filtered) return html`<${Empty} icon="search" title="No job fits">Choose another status, or clear the filter.<//>`;
  return html`<${Empty}
    title="No jobs yet"
    action=${html`<a class="btn primary" href=${link("jobs", "new")}><${Icon} name="plus" />Create the first job</a>`}
  >
    A job trains a model in both modes on a file of prompts or on a procedural task, and this page shows how it learns.
  <//>`;
}
