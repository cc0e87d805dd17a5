// A run's charts and what changes all of them: smoothing, axis, unit, range.
import { blob, jobPath } from "../core/api.js";
import { count } from "../core/format.js";
import { html, useEffect, useMemo, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { useStore } from "../core/store.js";
import { save } from "../charts/export.js";
import { Chart } from "../charts/chart.js";
import { Icon } from "../ui/icons.js";
import { Empty, Segments, Skeleton, isOver } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { FIRST, chartsFor } from "./catalog.js";

/** Smoothing reaches this share of the run. */
const REACH = [0, 0.003, 0.006, 0.0125, 0.025, 0.05, 0.1];

/** `brief`: the few that say most. */
export function Charts({ job, source, group, brief }) {
  const names = useStore(source.names);
  const [smoothing, setSmoothing] = useState(0);
  const [log, setLog] = useState(false);
  const [unit, setUnit] = useState("nats");
  const reach = REACH[smoothing] * Math.max(20, job.progress.total_steps);
  const settings = useMemo(() => ({ reach, log, unit }), [reach, log, unit]);
  if (names === null) return html`<div class="charts">${[0, 1, 2, 3].map((i) => html`<${Skeleton} key=${i} height="268px" />`)}</div>`;
  if (!names.length) {
    return html`<div class="card">
      <${Empty} icon="chart" title=${isOver(job) ? "No metrics" : "No metrics yet"}>
        ${isOver(job) ? "The job ended before its first step." : "The first step appears here as soon as it is done. Before that, the model is loaded and the grader checked."}
      <//>
    </div>`;
  }
  const all = chartsFor(names.map((one) => one.name));
  const sections = brief ? briefly(all, job) : all;
  return html`
    <div class="toolbar" role="toolbar" aria-label="Charts">
      <label class="row">
        <span class="label">Smoothing</span>
        <input type="range" min="0" max=${REACH.length - 1} value=${smoothing} onInput=${(event) => setSmoothing(Number(event.target.value))} aria-valuetext=${reach ? `${Math.round(reach)} steps` : "off"} />
        <span class="num small muted reach">${reach ? `${count(Math.max(1, Math.round(reach)))} steps` : "off"}</span>
      </label>
      <${Segments} label="Unit of entropy" value=${unit} options=${[["nats", "nats"], ["bits", "bits"]]} onChange=${setUnit} />
      <label class="check"><input type="checkbox" checked=${log} onChange=${(event) => setLog(event.target.checked)} />Log axis</label>
      <${Range} group=${group} />
      <button type="button" class="btn tight" onClick=${() => saveAll(job)}><${Icon} name="download" />All series, CSV</button>
    </div>
    ${sections.map(([title, about, charts]) => html`<${Section} key=${title} title=${title} about=${about} charts=${charts} source=${source} group=${group} settings=${settings} />`)}
  `;
}

/** The first charts of `sections` as one; where a run has none of them, its first four. */
function briefly(sections, job) {
  const all = sections.flatMap(([, , charts]) => charts);
  const wanted = FIRST[job.method?.type ?? "reinforcement"];
  const first = all.filter((chart) => wanted.includes(chart.id)).sort((a, b) => wanted.indexOf(a.id) - wanted.indexOf(b.id));
  const about = html`the first of ${count(all.length)}: <a href=${link("jobs", job.id, "charts")}>all charts</a>`;
  return [["Curves", about, first.length ? first : all.slice(0, 4)]];
}

function Section({ title, about, charts, source, group, settings }) {
  const folded = title === "Everything else";
  const [open, setOpen] = useState(!folded);
  return html`<section aria-label=${title}>
    <div class="section-title">
      <h2>${title}</h2>
      <p>${about}</p>
      ${folded && html`<button type="button" class="btn tight" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>${open ? "Hide" : "Show"}</button>`}
    </div>
    ${open && html`<div class="charts">${charts.map((spec) => html`<${Chart} key=${`${spec.id} ${spec.lines.length}`} spec=${spec} source=${source} group=${group} settings=${settings} />`)}</div>`}
  </section>`;
}

function Range({ group }) {
  const [range, setRange] = useState(group.range.get());
  useEffect(() => {
    // While somebody pans, the words need not keep up with every frame.
    let timer = null;
    const stop = group.range.subscribe(() => {
      timer ??= setTimeout(() => {
        timer = null;
        setRange(group.range.get());
      }, 120);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [group]);
  if (range === null) return html`<span class="grow small muted hint-zoom">Drag over a chart to zoom in; hold Shift to pan.</span>`;
  const [low, high] = range.map((step) => count(Math.round(step)));
  return html`<span class="grow row">
    <span class="small num">steps ${low}–${high}</span>
    <button type="button" class="btn tight" onClick=${() => group.range.set(null)}><${Icon} name="reset" />Show all</button>
  </span>`;
}

async function saveAll(job) {
  try {
    save(await blob(jobPath(job.id, "/metrics.csv")), `${job.id}-metrics.csv`);
  } catch (error) {
    say(error.message);
  }
}
