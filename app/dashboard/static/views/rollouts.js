// What the model wrote: by step and prompt, or found by a text.
import { save } from "../charts/export.js";
import { blob, get, jobPath } from "../core/api.js";
import { count } from "../core/format.js";
import { cls, html, useEffect, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/poll.js";
import { link, setQuery } from "../core/router.js";
import { Course } from "../rollouts/course.js";
import { Group } from "../rollouts/group.js";
import { HeatScale, TINTS } from "../rollouts/heat.js";
import { Hits } from "../rollouts/hits.js";
import { ORDER_NAMES, ordered } from "../rollouts/order.js";
import { Icon } from "../ui/icons.js";
import { Empty, Problem, Segments, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const MODES = [
  ["", "Both modes"],
  ["normal", "Normal"],
  ["high-entropy", "High-entropy"],
];
const MOST = 400;

/** A tab of a run's page. */
export function Rollouts({ job, query }) {
  const { id } = job;
  const text = useSettled(query.get("q") ?? "", 300);
  const last = job.progress.step;
  // A search or an item looks at all steps; else one step is looked at, at first the last one.
  const everywhere = Boolean(text || query.get("item"));
  const step = query.get("step") ?? (everywhere ? null : last);
  const filters = { mode: query.get("mode"), min_reward: query.get("min"), max_reward: query.get("max"), item: query.get("item"), search: text };
  const found = useLoad(
    (signal) => (step === null && !everywhere ? null : list(id, { ...filters, step }, signal)),
    [id, step, everywhere, ...Object.values(filters)],
  );
  const drawn = grouped(found.data?.rows ?? []);
  const sort = query.get("sort") ?? "surprise";
  const groups = ordered(drawn, sort);
  const chosen = groups.find((group) => group.key === query.get("group")) ?? groups[0];
  const whole = useWhole(id, chosen, Boolean(text || filters.min_reward || filters.max_reward));
  const tint = query.get("tint") ?? "none";
  const diffing = query.get("diff") === "1";
  return html`
    <section class="card filters" aria-label="Filters">
      <${Steps} step=${step} last=${last} />
      <${Segments} label="Mode" value=${query.get("mode") ?? ""} options=${MODES} onChange=${(mode) => setQuery({ mode })} />
      <label class="row small">Reward
        <input class="input num short" type="number" step="0.1" placeholder="from" aria-label="Lowest reward" value=${query.get("min") ?? ""} onChange=${(event) => setQuery({ min: event.target.value })} />
        <input class="input num short" type="number" step="0.1" placeholder="to" aria-label="Highest reward" value=${query.get("max") ?? ""} onChange=${(event) => setQuery({ max: event.target.value })} />
      </label>
      <label class="row small">Item
        <input class="input num short" type="number" min="0" placeholder="any" value=${query.get("item") ?? ""} onChange=${(event) => setQuery({ item: event.target.value, group: "" })} />
      </label>
      <label class="search">
        <${Icon} name="search" /><span class="sr">Search in prompts and responses</span>
        <input class="input" type="search" placeholder="Search all steps" value=${query.get("q") ?? ""} onInput=${(event) => setQuery({ q: event.target.value, step: "", group: "" })} />
      </label>
    </section>
    ${found.error && html`<${Problem} error=${found.error} retry=${found.reload} />`}
    ${found.loading && !groups.length
      ? html`<${Skeleton} height="320px" />`
      : groups.length
        ? html`<div class="browse">
            <nav class="card group-list" aria-label="Prompts">
              <label class="row small entry-sort">Sort
                <select class="input" value=${sort} onChange=${(event) => setQuery({ sort: event.target.value === "surprise" ? "" : event.target.value, group: "" })}>
                  ${ORDER_NAMES.map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}
                </select>
              </label>
              ${groups.map((group) => html`<${Entry} key=${group.key} group=${group} chosen=${group === chosen} steps=${everywhere} search=${text} />`)}
              ${found.data.more && html`<p class="tiny muted" style=${{ padding: "12px 16px" }}>The first ${count(MOST)} responses are shown: narrow the search for others.</p>`}
            </nav>
            <div class="grow">
              <div class="row wrap" style=${{ marginBottom: "12px" }}>
                <span class="small label">Tokens</span>
                <${Segments} label="Tint of tokens" value=${tint} options=${TINTS} onChange=${(one) => setQuery({ tint: one === "none" ? "" : one })} />
                <${HeatScale} tint=${tint} />
                <span class="grow" />
                <label class="check"><input type="checkbox" checked=${diffing} onChange=${(event) => setQuery({ diff: event.target.checked ? "1" : "" })} />Difference between the modes</label>
                ${step !== null && html`<button type="button" class="btn tight" onClick=${() => saveStep(id, step)}><${Icon} name="download" />Step as JSONL</button>`}
              </div>
              <div class="stack">
                ${filters.item && drawn.length > 1 && html`<${Course} key=${filters.item} jobId=${id} groups=${drawn} />`}
                <${Group} key=${chosen.key} jobId=${id} rows=${whole ? ordered([{ rows: whole }], sort)[0].rows : chosen.rows} tint=${tint} diffing=${diffing} search=${text} />
              </div>
            </div>
          </div>`
        : !found.error && html`<div class="card"><${Nothing} step=${last} narrowed=${everywhere || filters.mode || filters.min_reward || filters.max_reward || query.get("step")} /></div>`}
  `;
}

function Steps({ step, last }) {
  const number = Number(step ?? last ?? 1);
  const go = (to) => setQuery({ step: Math.min(Math.max(1, to), Math.max(1, last ?? 1)), group: "", q: "", item: "" });
  return html`<div class="row">
    <label class="label" for="step">Step</label>
    <button type="button" class="btn tight" aria-label="Step before" disabled=${number <= 1} onClick=${() => go(number - 1)}><${Icon} name="left" /></button>
    <input id="step" class="input num short" type="number" min="1" max=${last} value=${step ?? ""} placeholder="all" onChange=${(event) => event.target.value && go(Number(event.target.value))} />
    <button type="button" class="btn tight" aria-label="Step after" disabled=${last === null || number >= last} onClick=${() => go(number + 1)}><${Icon} name="right" /></button>
    <input type="range" min="1" max=${last ?? 1} value=${number} aria-label="Step" onChange=${(event) => go(Number(event.target.value))} />
    <span class="muted small num">of ${count(last)}</span>
  </div>`;
}

/** A prompt with a dot a response: its colour is the mode, its fill the reward. */
function Entry({ group, chosen, steps, search }) {
  const { rows } = group;
  return html`<a class=${cls("entry", chosen && "chosen")} href=${link("jobs", rows[0].fine_tuning_job_id, "rollouts", { ...current(), group: group.key })} aria-current=${chosen ? "true" : null}>
    <span class="entry-text"><${Hits} text=${question(rows[0].prompt)} search=${search} /></span>
    <span class="row tiny muted num">
      ${steps && html`<span>step ${count(rows[0].step)}</span>`}
      <span class="dots" aria-hidden="true">
        ${rows.map((row) => html`<i key=${row.id} class=${row.mode === "normal" ? "n" : "h"} style=${{ "--fill": `${100 * Math.min(1, Math.max(0, row.reward ?? 0))}%` }} />`)}
      </span>
      <span class="sr">${rows.length} responses</span>
    </span>
  </a>`;
}

function current() {
  return Object.fromEntries(new URLSearchParams(location.hash.split("?")[1] ?? ""));
}

/** The end of a prompt is the question; before it stand instructions and the template's marks. */
function question(prompt) {
  const lines = prompt.replace(/<\|[^|>]*\|>/g, "\n").split("\n").map((line) => line.trim()).filter((line) => line && !/^(system|user|assistant)$/i.test(line));
  return lines.at(-1) ?? prompt;
}

async function list(id, query, signal) {
  const rows = [];
  let more = true;
  while (more && rows.length < MOST) {
    const page = await get(jobPath(id, "/rollouts"), { ...query, limit: 100, after: rows.at(-1)?.id }, signal);
    rows.push(...page.data);
    more = page.has_more;
  }
  return { rows, more };
}

/** All of a job's may be more than a browser has room for. */
async function saveStep(id, step) {
  try {
    save(await blob(jobPath(id, "/rollouts.jsonl"), { step }), `${id}-step-${step}.jsonl`);
  } catch (error) {
    say(error.message);
  }
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    const key = `${row.step}.${row.group}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups].map(([key, members]) => ({ key, rows: members }));
}

/** All responses of the chosen group, where the filters left out some. */
function useWhole(id, chosen, narrowed) {
  const [state, setState] = useState({ key: null, rows: null });
  useEffect(() => {
    if (!chosen || !narrowed) return undefined;
    const aborter = new AbortController();
    const { step, group } = chosen.rows[0];
    list(id, { step, group }, aborter.signal)
      .then(({ rows }) => setState({ key: chosen.key, rows }))
      .catch(() => {});
    return () => aborter.abort();
  }, [id, chosen?.key, narrowed]);
  return narrowed && state.key === chosen?.key ? state.rows : null;
}

function Nothing({ step, narrowed }) {
  if (narrowed) return html`<${Empty} icon="search" title="No matching responses">Widen the reward range, choose both modes, or choose another step.<//>`;
  return html`<${Empty} title="No rollouts yet">${step ? "This step's responses were not kept." : "Responses appear here after the first training step."}<//>`;
}
