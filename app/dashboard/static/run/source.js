// The metric series of one run, as charts need them: thinned over the whole run, finer where somebody zooms in,
// and growing while the run goes on.
import { get, jobPath } from "../core/api.js";
import { Store } from "../core/store.js";

const WHOLE = 800; // points of a series over the whole run
const FINE = 1600; // points over the range that is zoomed to
const BATCH = 4; // series in one request: several are answered at the same time
const REFINE_AFTER = 160; // milliseconds of rest after a move

export class SeriesSource {
  #jobId;
  #whole = new Map();
  #fine = new Map();
  #merged = new Map();
  #asked = new Set();
  #queue = new Set();
  #watched = new Map();
  #listeners = new Map();
  #aborter = new AbortController();
  #refining = new AbortController();
  #timer = null;
  #frame = null;
  #last = 1;

  constructor(jobId) {
    this.#jobId = jobId;
    /** `[{name, last_step, last_value}]`, null until it is known. */
    this.names = new Store(null);
    /** The error of the last request that failed, or null. */
    this.error = new Store(null);
  }

  /** Ask which series there are. */
  async open() {
    const { data } = await get(jobPath(this.#jobId, "/metrics"), {}, this.#aborter.signal);
    for (const one of data) this.#last = Math.max(this.#last, one.last_step);
    this.names.set(data);
    this.#notify();
  }

  close() {
    this.#aborter.abort();
    this.#refining.abort();
    clearTimeout(this.#timer);
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
  }

  /** First and last step of the run so far. */
  extent() {
    return [0, this.#last];
  }

  isEmpty(names) {
    const known = this.names.get();
    return known !== null && !names.some((name) => known.some((one) => one.name === name));
  }

  /** Load series over the whole run, once. Those that are asked for at the same time share requests. */
  want(names) {
    for (const name of names) {
      if (this.#asked.has(name)) continue;
      this.#asked.add(name);
      if (this.#queue.size === 0) queueMicrotask(() => this.#flush());
      this.#queue.add(name);
    }
  }

  /** Whether a chart of these series is in sight: what is refined is what is seen. */
  watch(names, visible) {
    for (const name of names) {
      const n = (this.#watched.get(name) ?? 0) + (visible ? 1 : -1);
      if (n > 0) this.#watched.set(name, n);
      else this.#watched.delete(name);
    }
  }

  /** `{steps, values}` of a series, or undefined while it is not there. */
  get(name) {
    if (!this.#merged.has(name) && this.#whole.has(name)) {
      this.#merged.set(name, merge(this.#whole.get(name), this.#fine.get(name)));
    }
    return this.#merged.get(name);
  }

  /** Call `listener` when one of the series changes; returns how to stop. */
  subscribe(names, listener) {
    this.#listeners.set(listener, names);
    return () => this.#listeners.delete(listener);
  }

  /** A step's values, as they come from a run that goes on. A step that is done again replaces itself. */
  append(step, values) {
    this.#last = Math.max(this.#last, step);
    const known = new Set(this.names.get()?.map((one) => one.name));
    if (Object.keys(values).some((name) => !known.has(name))) this.#learn(step, values, known);
    for (const [name, value] of Object.entries(values)) {
      for (const series of [this.#whole.get(name), this.#fine.get(name)]) if (series) put(series, step, value);
      this.#merged.delete(name);
    }
    this.#notify();
  }

  /** Load what is in sight anew, finer, for a range of steps; null: the whole run is enough. */
  refine(range) {
    clearTimeout(this.#timer);
    if (range === null) return;
    this.#timer = setTimeout(() => this.#refine(range), REFINE_AFTER);
  }

  #learn(step, values, known) {
    const fresh = Object.entries(values).filter(([name]) => !known.has(name));
    const added = fresh.map(([name, value]) => ({ name, last_step: step, last_value: value }));
    this.names.set([...(this.names.get() ?? []), ...added]);
    for (const [name] of fresh) this.#asked.delete(name);
    for (const names of this.#listeners.values()) this.want(names.filter((name) => name in values));
  }

  async #flush() {
    const names = [...this.#queue];
    this.#queue.clear();
    const batches = [];
    for (let i = 0; i < names.length; i += BATCH) batches.push(names.slice(i, i + BATCH));
    await Promise.all(batches.map((batch) => this.#load(batch)));
  }

  async #load(names) {
    try {
      for (const one of await this.#fetch(names, { max_points: WHOLE }, this.#aborter.signal)) {
        this.#whole.set(one.name, { steps: one.steps, values: one.values, thinned: one.downsampled });
        this.#merged.delete(one.name);
      }
      this.error.set(null);
      this.#notify();
    } catch (error) {
      if (error.name === "AbortError") return;
      for (const name of names) this.#asked.delete(name);
      this.error.set(error);
    }
  }

  async #refine([low, high]) {
    // What an earlier range still waits for would take the place of this one's points.
    this.#refining.abort();
    this.#refining = new AbortController();
    const { signal } = this.#refining;
    const span = high - low;
    const from = Math.max(0, Math.floor(low - span / 2));
    const to = Math.ceil(high + span / 2);
    const names = [...this.#watched.keys()].filter((name) => {
      const fine = this.#fine.get(name);
      const enough = fine && fine.from <= low && fine.to >= high && fine.to - fine.from <= 3 * span;
      return this.#whole.get(name)?.thinned && !enough;
    });
    for (let i = 0; i < names.length; i += BATCH) {
      const batch = names.slice(i, i + BATCH);
      try {
        for (const one of await this.#fetch(batch, { from, to, max_points: FINE }, signal)) {
          this.#fine.set(one.name, { from, to, steps: one.steps, values: one.values });
          this.#merged.delete(one.name);
        }
        this.#notify();
      } catch (error) {
        if (error.name !== "AbortError") this.error.set(error);
        return;
      }
    }
  }

  async #fetch(name, query, signal) {
    const path = jobPath(this.#jobId, "/metrics");
    return (await get(path, { name, layout: "columns", ...query }, signal)).data;
  }

  #notify() {
    if (this.#frame !== null) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      for (const listener of [...this.#listeners.keys()]) listener();
    });
  }
}

/** The whole series with its finer part in place of the points there. */
function merge(whole, fine) {
  if (!fine?.steps.length) return whole;
  const before = whole.steps.findIndex((step) => step >= fine.from);
  const after = whole.steps.findIndex((step) => step > fine.to);
  const left = before < 0 ? whole.steps.length : before;
  const right = after < 0 ? whole.steps.length : after;
  const join = (key) => [...whole[key].slice(0, left), ...fine[key], ...whole[key].slice(right)];
  return { steps: join("steps"), values: join("values") };
}

function put({ steps, values, from, to }, step, value) {
  if (from !== undefined && (step < from || step > to)) return;
  let at = steps.length;
  while (at > 0 && steps[at - 1] >= step) at--;
  const same = steps[at] === step;
  steps.splice(at, same ? 1 : 0, step);
  values.splice(at, same ? 1 : 0, value);
}
