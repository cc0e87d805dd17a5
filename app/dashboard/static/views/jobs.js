// All jobs, live. What is shown is in the address: filter, search, order, and how many pages.
import { get, JOBS_PATH } from "../core/api.js";
import { ago, count, dateTime, number } from "../core/format.js";
import { cls, html, useLayoutEffect, useRef, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { algorithmOf, jobName, learnsFromRows, share, timing } from "../jobs/names.js";
import { Selection } from "../jobs/selection.js";
import { useSparks } from "../jobs/sparks.js";
import { Icon } from "../ui/icons.js";
import { Bar, Empty, Problem, Segments, Skeleton, Status, isActive } from "../ui/parts.js";
import { Spark } from "../ui/spark.js";

const PAGE = 25;
const MOST_PAGES = 20;
const MOST_SEARCHED = 200;
/** What the list can be in the order of, and which way at first. */
const COLUMNS = { name: "asc", status: "asc", created_at: "desc", normal_reward: "desc", high_entropy_reward: "desc" };
const SORT_NAMES = { name: "Name", status: "Status", created_at: "Created", normal_reward: "Reward, normal mode", high_entropy_reward: "Reward, high-entropy mode" };
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
  const asked = useSettled(text.trim().slice(0, MOST_SEARCHED), 250);
  const pages = Math.min(Math.max(1, Number(query.get("pages")) || 1), MOST_PAGES);
  const sort = query.get("sort") in COLUMNS ? query.get("sort") : "created_at";
  const order = query.get("order") === "asc" ? "asc" : "desc";
  const [chosen, setChosen] = useState(new Set());
  const box = useRef(null);
  const { data, error, loading, reload } = useLoad(
    (signal) => list({ status: FILTERS[filter], search: asked, sort, order }, pages, signal),
    [filter, asked, sort, order, pages],
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
  const jobs = data?.jobs ?? [];
  const selected = jobs.filter((job) => chosen.has(job.id));
  const choose = (ids, on) => setChosen((old) => new Set(on ? [...old, ...ids] : [...old].filter((id) => !ids.includes(id))));
  const spark = useSparks(jobs);
  const table = { jobs, spark, chosen, choose, sort, order };
  return html`
    <div class="page-head">
      <div>
        <h1>Jobs</h1>
        <p>Fine-tuning runs: from rewards in both modes, from answers, from preferences.</p>
      </div>
      <div class="actions">
        <a class="btn primary" href=${link("jobs", "new")}><${Icon} name="plus" />New job</a>
      </div>
    </div>
    <section class="card" aria-label="Jobs">
      <div class="card-head">
        <${Segments} label="Status" value=${filter} options=${NAMES} onChange=${(status) => setQuery({ status: status === "all" ? "" : status, pages: "" })} />
        <label class="search">
          <${Icon} name="search" /><span class="sr">Search by name, model, id, tag or note</span>
          <input ref=${box} class="input" type="search" placeholder="Name, model, tag …" value=${text} onInput=${(event) => setQuery({ q: event.target.value, pages: "" })} />
        </label>
        <${Sort} sort=${sort} order=${order} />
      </div>
      ${selected.length > 0 && html`<${Selection} jobs=${selected} onDone=${() => { setChosen(new Set()); reload(); }} onClear=${() => setChosen(new Set())} />`}
      ${error && html`<div style=${{ padding: "14px 18px" }}><${Problem} error=${error} retry=${reload} /></div>`}
      ${data === null && !error ? html`<${Waiting} />` : jobs.length ? html`<${Table} ...${table} />` : !error && html`<${Nothing} filtered=${filter !== "all" || text} />`}
      ${data?.more &&
      pages < MOST_PAGES &&
      html`<div class="more">
        <button type="button" class="btn" disabled=${loading} onClick=${() => setQuery({ pages: pages + 1 })}>Show more</button>
      </div>`}
    </section>
  `;
}

async function list(query, pages, signal) {
  const jobs = [];
  let more = false;
  for (let i = 0; i < pages; i++) {
    const page = await get(JOBS_PATH, { ...query, limit: PAGE, after: jobs.at(-1)?.id }, signal);
    jobs.push(...page.data);
    more = page.has_more;
    if (!more) break;
  }
  return { jobs, more };
}

function Table({ jobs, spark, chosen, choose, sort, order }) {
  const ids = jobs.map((job) => job.id);
  const all = ids.every((id) => chosen.has(id));
  const head = { sort, order };
  return html`<div class="table-box">
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col" class="job-check"><input type="checkbox" checked=${all} aria-label="Select all" onChange=${() => choose(ids, !all)} /></th>
          <${Header} ...${head} name="name">Job<//>
          <${Header} ...${head} name="status">Status<//>
          <th scope="col">Progress</th>
          <th scope="col" aria-sort=${sortOf(head, "normal_reward", "high_entropy_reward")}>
            <span class="sorts">Reward or loss
              <${SortBy} ...${head} name="normal_reward" label="Reward, normal mode"><span class="is-n">N</span><//>
              <${SortBy} ...${head} name="high_entropy_reward" label="Reward, high-entropy mode"><span class="is-h">H</span><//>
            </span>
          </th>
          <th scope="col" class="right">Time</th>
          <th scope="col" class="right">Attempts</th>
          <${Header} ...${head} name="created_at" right>Created<//>
        </tr>
      </thead>
      <tbody>
        ${jobs.map((job) => html`<${Row} key=${job.id} job=${job} series=${spark(job.id)} chosen=${chosen.has(job.id)} choose=${choose} />`)}
      </tbody>
    </table>
  </div>`;
}

/** A column that the list can be in the order of. */
function Header({ name, sort, order, right, children }) {
  return html`<th scope="col" class=${right && "right"} aria-sort=${sortOf({ sort, order }, name)}>
    <${SortBy} name=${name} sort=${sort} order=${order}>${children}<//>
  </th>`;
}

const sortOf = ({ sort, order }, ...names) => (!names.includes(sort) ? null : order === "asc" ? "ascending" : "descending");

const other = (order) => (order === "asc" ? "desc" : "asc");
const sortBy = (name, order) => setQuery({ sort: name === "created_at" ? "" : name, order: order === "desc" ? "" : order, pages: "" });

/** The same on a phone, where the columns have no heads. */
function Sort({ sort, order }) {
  return html`<div class="row small jobs-sort">
    <label class="row small grow">Sort by
      <select class="input" value=${sort} onChange=${(event) => sortBy(event.target.value, COLUMNS[event.target.value])}>
        ${Object.entries(SORT_NAMES).map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}
      </select>
    </label>
    <button type="button" class="btn" aria-label=${order === "asc" ? "Rising; press for falling" : "Falling; press for rising"} onClick=${() => sortBy(sort, other(order))}>${order === "asc" ? "↑" : "↓"}</button>
  </div>`;
}

/** Puts the list in an order; pressed again, the other way round. */
function SortBy({ name, sort, order, label, children }) {
  const on = name === sort;
  const change = () => sortBy(name, on ? other(order) : COLUMNS[name]);
  return html`<button type="button" class=${cls("sort", on && "on")} aria-label=${label} onClick=${change}>${children}<span class="way" aria-hidden="true">${on ? (order === "asc" ? "↑" : "↓") : ""}</span></button>`;
}

function Row({ job, series, chosen, choose }) {
  const { step, total_steps: total } = job.progress;
  const [what, time] = timing(job);
  const last = (series ?? []).map(({ mode, values }) => [mode, values.at(-1)]).filter(([, value]) => value !== undefined);
  return html`<tr class=${chosen && "chosen"}>
    <td class="job-check"><input type="checkbox" checked=${chosen} aria-label=${`Select ${jobName(job)}`} onChange=${() => choose([job.id], !chosen)} /></td>
    <td class="job-name">
      <a href=${link("jobs", job.id)}>${jobName(job)}</a>
      <span class="muted tiny ellipsis">${job.model} · ${algorithmOf(job)}</span>
      ${job.tags.length > 0 && html`<span class="row wrap tags">${job.tags.map((tag) => html`<span key=${tag} class="tag">${tag}</span>`)}</span>`}
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
        ${series ? html`<${Spark} series=${series} label=${learnsFromRows(job) ? "Loss" : "Reward"} />` : step > 0 ? html`<${Skeleton} height="20px" width="108px" />` : html`<span class="muted">–</span>`}
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
  if (filtered) return html`<${Empty} icon="search" title="No matching jobs">Choose another status, or clear the search.<//>`;
  return html`<${Empty}
    title="No jobs yet"
    action=${html`<a class="btn primary" href=${link("jobs", "new")}><${Icon} name="plus" />Create the first job</a>`}
  >
    A job trains a model on a file or on a procedural task, and this page shows how it learns.
  <//>`;
}
