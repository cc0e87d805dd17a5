// Where a run ended: the mean of the last tenth of its steps, with the deviation of its points.
import { get, jobPath } from "../core/api.js";

/** More than a tenth of the longest runs has: nothing is left out. */
const MOST_POINTS = 100_000;

/** By name `{mean, deviation, points}` of a job's series; deviation null for one point. */
export async function finals(job, names, signal) {
  const { step, total_steps: total } = job.progress;
  const last = Math.max(step, 1) || total;
  const query = { name: names, from: Math.floor(0.9 * last) + 1, max_points: MOST_POINTS, layout: "columns" };
  const { data } = await get(jobPath(job.id, "/metrics"), query, signal);
  return new Map(data.filter(({ values }) => values.length).map(({ name, values }) => [name, summary(values)]));
}

export function summary(values) {
  const points = values.length;
  const mean = values.reduce((sum, one) => sum + one, 0) / points;
  const squares = values.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  return { mean, deviation: points > 1 ? Math.sqrt(squares / (points - 1)) : null, points };
}
