// What an experiment comes to: runs, steps, and time, by earlier jobs or by a probe of each kind of run.
import { get, JOBS_PATH, post } from "../core/api.js";
import { count, duration, plural } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { Problem } from "../ui/parts.js";

/** Kinds of run that are probed at most: each takes a worker the time of two steps. */
const MOST_PROBES = 12;
const EVERY_MS = 1000;
const SHOWN_JOBS = 3;
const keyOf = (kind) => JSON.stringify(kind.job);

/** The seconds of all runs one after another: `{value, low, high}`, or null while those of a kind are unknown. */
function total(kinds, probed) {
  const sum = { value: 0, low: 0, high: 0 };
  for (const kind of kinds) {
    const seconds = kind.seconds ?? probed.get(keyOf(kind));
    if (!seconds) return null;
    for (const end of Object.keys(sum)) sum[end] += kind.runs * seconds[end];
  }
  return sum;
}

/** `found`: the API's validation of what is to be made, or null; `of`: what it is a product of, in words. */
export function Size({ found, of = [] }) {
  const [probed, setProbed] = useState(new Map());
  const [probing, setProbing] = useState(null);
  const [error, setError] = useState(null);
  const aborter = useRef(null);
  useEffect(() => () => aborter.current?.abort(), []);
  const kinds = found?.kinds ?? [];
  const unknown = kinds.filter((kind) => !kind.seconds && !probed.has(keyOf(kind)));
  const time = kinds.length ? total(kinds, probed) : null;
  const measure = async () => {
    aborter.current = new AbortController();
    const { signal } = aborter.current;
    setError(null);
    try {
      for (const [i, kind] of unknown.entries()) {
        setProbing(`${i + 1} of ${plural(unknown.length, "kind")} of run`);
        const seconds = await probe(kind.job, signal);
        setProbed((old) => new Map([...old, [keyOf(kind), seconds]]));
      }
    } catch (problem) {
      if (problem.name === "AbortError") return;
      setError(problem);
    }
    setProbing(null);
  };
  return html`<section class="card pad size" aria-label="Size and duration">
    <dl>
      <div>
        <dt>Runs</dt>
        <dd><b class="num">${found ? count(found.runs) : "–"}</b> <span class="muted small">${of.join(" × ")}</span></dd>
      </div>
      <div><dt>Steps</dt><dd><b class="num">${found ? count(found.total_steps) : "–"}</b></dd></div>
      <div>
        <dt>Time</dt>
        <dd>
          ${time ? html`<b class="num">about ${duration(time.value)}</b> <span class="muted small">${duration(time.low)} to ${duration(time.high)}, one run after another</span>` : html`<b>${found?.runs ? "not known yet" : "–"}</b>`}
        </dd>
      </div>
    </dl>
    ${found?.measured_on.length > 0 && html`<p class="tiny muted">By ${found.measured_on.slice(0, SHOWN_JOBS).map((id, i) => html`${i > 0 && ", "}<a key=${id} class="mono" href=${link("jobs", id)}>${id}</a>`)}${found.measured_on.length > SHOWN_JOBS && ` and ${count(found.measured_on.length - SHOWN_JOBS)} more`}, of the same model and size.</p>`}
    ${unknown.length > 0 && unknown.length <= MOST_PROBES && !probing && html`<div class="row wrap"><button type="button" class="btn" onClick=${measure}>Measure</button><span class="tiny muted">No job of this model and size has succeeded yet. A worker runs two steps of each kind of run.</span></div>`}
    ${probing && html`<p class="small muted" role="status">Measuring ${probing} …</p>`}
    ${error && html`<${Problem} error=${error} />`}
    ${found?.notes.map((note) => html`<p key=${note} class="small soft">${note}</p>`)}
  </section>`;
}

/** What a job would take in all, as a worker finds out by two steps of it. */
async function probe(job, signal) {
  let estimate = await post(`${JOBS_PATH}/estimate`, job, { signal });
  while (!["succeeded", "failed"].includes(estimate.status)) {
    await new Promise((done) => setTimeout(done, EVERY_MS));
    estimate = await get(`/v1/fine_tuning/estimates/${estimate.id}`, {}, signal);
  }
  if (estimate.error) throw estimate.error;
  return estimate.result.total_seconds;
}

/** In words, for a line: 10 runs, about 2 h. */
export function sizeInWords(found) {
  if (!found) return "";
  const time = found.total_seconds ? `, about ${duration(found.total_seconds.value)}` : "";
  return `${plural(found.runs, "run")} of ${plural(found.runs ? found.total_steps / found.runs : 0, "step")}${time}`;
}
