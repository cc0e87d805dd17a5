// The series of several runs under one roof: a name is `run index|metric`.
import { MORE } from "../charts/colours.js";
import { jobName } from "../jobs/names.js";
import { COMPARABLE } from "../run/catalog.js";
import { SeriesSource } from "../run/source.js";

/** Characters of a run's name beside a line. */
const MOST_NAME = 26;

export const tokenAt = (index) => MORE[index % MORE.length];

export class CompareSource {
  #ids;
  #runs;

  constructor(ids) {
    this.#ids = ids;
    this.#runs = ids.map((id) => new SeriesSource(id));
  }

  async open() {
    await Promise.all(this.#runs.map((run) => run.open()));
  }

  close() {
    for (const run of this.#runs) run.close();
  }

  names() {
    return this.#runs.flatMap((run, i) => run.names.get().map((one) => `${i}|${one.name}`));
  }

  extent() {
    return [0, Math.max(...this.#runs.map((run) => run.extent()[1]))];
  }

  isEmpty() {
    return false;
  }

  want(names) {
    this.#each(names, (run, own) => run.want(own));
  }

  watch(names, visible) {
    this.#each(names, (run, own) => run.watch(own, visible));
  }

  get(name) {
    const [index, metric] = split(name);
    return this.#runs[index].get(metric);
  }

  refine(range) {
    for (const run of this.#runs) run.refine(range);
  }

  subscribe(names, listener) {
    const stops = [];
    this.#each(names, (run, own) => {
      // Each run keeps its listeners by identity.
      stops.push(run.subscribe(own, () => listener()));
    });
    return () => stops.forEach((stop) => stop());
  }

  #each(names, action) {
    this.#runs.forEach((run, i) => {
      const own = names.map(split).filter(([index]) => index === i).map(([, metric]) => metric);
      if (own.length) action(run, own);
    });
  }
}

function split(name) {
  const bar = name.indexOf("|");
  return [Number(name.slice(0, bar)), name.slice(bar + 1)];
}

/** A name that leaves room beside it: the table below has all of it. */
function inShort(job) {
  const name = jobName(job);
  return name.length > MOST_NAME ? `${name.slice(0, MOST_NAME - 1)}…` : name;
}

/** The charts that any of the runs has, with a line a run and mode. */
export function chartsOf(jobs, source) {
  const present = new Set(source.names());
  return COMPARABLE.map((chart) => {
    // Colours are for runs here: dashes tell a run's lines apart, by mode where a chart has both.
    const byMode = chart.lines.some((line) => line.token === "--n");
    const dashed = (line) => (byMode ? line.token === "--h" : line !== chart.lines[0]);
    const lines = jobs.flatMap((job, i) =>
      chart.lines
        .filter((line) => present.has(`${i}|${line.name}`))
        .map((line) => ({
          name: `${i}|${line.name}`,
          label: chart.lines.length > 1 ? `${inShort(job)} · ${line.label}` : inShort(job),
          token: tokenAt(i),
          dash: dashed(line) ? [6, 4] : undefined,
        })),
    );
    return { ...chart, id: `compare-${chart.id}`, lines };
  }).filter((chart) => chart.lines.length);
}
