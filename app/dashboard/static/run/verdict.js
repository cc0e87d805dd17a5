// A run in plain words: what its curves say, each sentence with the number behind it. Pure: numbers in, words out.
import { count, duration, number, percent } from "../core/format.js";

/** The series that a verdict reads. */
export const READS = [
  "train/N/reward",
  "train/H/reward",
  "train/N/entropy_nats",
  "train/H/entropy_nats",
  "diag/kl_H_N/prefix_H",
  "train/zero_variance",
  "train/step_seconds",
];

/** Below this many nats a mode decides almost every token with certainty. */
const COLLAPSED = 0.1;
const SPLIT_KL = 0.2;

/**
 * `[{topic, tone, says, because}]` from a job and `get(name)` → `{steps, values}`; `now` in unix seconds,
 * `lastStepAt` when the last step was heard of, or null.
 */
export function verdict(job, get, now, lastStepAt) {
  return [splitting(get), entropy(get), reward(get), progress(job, get, now, lastStepAt)].filter(Boolean);
}

/** The one sentence on top: the worst first. */
export function headline(checks) {
  for (const tone of ["bad", "warn"]) {
    const found = checks.find((check) => check.tone === tone);
    if (found) return found.says;
  }
  return checks.map((check) => check.says).slice(0, 2).join(". ") || null;
}

function splitting(get) {
  const kl = ends(get("diag/kl_H_N/prefix_H"));
  const [n, h] = [ends(get("train/N/entropy_nats")), ends(get("train/H/entropy_nats"))];
  if (kl === null || n === null || h === null) return null;
  const gap = h.late - n.late;
  const because = `KL(H‖N) ${number(kl.early)} → ${number(kl.late)} nats; high-entropy mode ${gap >= 0 ? "+" : "−"}${number(Math.abs(gap))} nats of entropy over normal`;
  if (kl.late >= SPLIT_KL && kl.late > 1.25 * kl.early && gap > 0) return check("Modes", "ok", "The modes are splitting", because);
  if (kl.late >= SPLIT_KL && gap > 0) return check("Modes", "ok", "The modes are apart", because);
  if (kl.late >= SPLIT_KL) return check("Modes", "warn", "The modes differ, but the high-entropy one is not the more varied", because);
  if (kl.late < 0.6 * kl.early) return check("Modes", "warn", "The modes are growing together", because);
  return check("Modes", "warn", "The modes have not split", because);
}

function entropy(get) {
  const modes = [["normal", "N"], ["high-entropy", "H"]].map(([name, letter]) => [name, ends(get(`train/${letter}/entropy_nats`))]);
  const known = modes.filter(([, value]) => value !== null);
  if (!known.length) return null;
  const because = known.map(([name, { early, late }]) => `${name} ${number(early)} → ${number(late)} nats`).join(", ");
  const exploding = known.find(([, { early, late }]) => late > 2 * early && late - early > 1);
  if (exploding) return check("Entropy", "bad", `Entropy of the ${exploding[0]} mode is exploding`, because);
  const [name, value] = known.at(-1);
  if (value.late < COLLAPSED || value.late < 0.1 * value.early) return check("Entropy", "bad", `Entropy of the ${name} mode has collapsed`, because);
  const normal = known[0][1];
  if (known.length > 1 && normal.late < COLLAPSED) return check("Entropy", "info", "The normal mode is sure of itself, the other explores", because);
  return check("Entropy", "ok", "Entropy is in bounds", because);
}

function reward(get) {
  const modes = [["normal", "N"], ["high-entropy", "H"]].map(([name, letter]) => [name, ends(get(`train/${letter}/reward`))]).filter(([, value]) => value !== null);
  if (!modes.length) return null;
  const flat = ends(get("train/zero_variance"));
  const because = modes.map(([name, { early, late }]) => `${name} ${number(early)} → ${number(late)}`).join(", ") + (flat ? `; ${percent(flat.late)} of the groups have nothing to prefer` : "");
  const best = Math.max(...modes.map(([, value]) => value.late));
  const gain = Math.max(...modes.map(([, { early, late }]) => late - early));
  if (flat && flat.late > 0.9 && best < 0.05) return check("Reward", "bad", "There is no reward to learn from", because);
  if (best > 0.97 || (flat && flat.late > 0.85)) return check("Reward", "warn", "The reward is saturated", because);
  if (gain > 0.02) return check("Reward", "ok", "The reward is rising", because);
  if (gain < -0.05) return check("Reward", "warn", "The reward is falling", because);
  return check("Reward", "warn", "The reward has not moved", because);
}

function progress(job, get, now, lastStepAt) {
  const { step, total_steps: total } = job.progress;
  const pace = median(get("train/step_seconds")?.values.slice(-50) ?? []);
  const each = pace === null ? "" : `; a step takes ${number(pace)} s`;
  const done = `step ${count(step)} of ${count(total)}${each}`;
  switch (job.status) {
    case "succeeded":
      return check("Progress", "ok", "The run is done", done);
    case "failed":
      return check("Progress", "bad", "The run failed", done); // why stands above
    case "cancelled":
      return check("Progress", "info", "The run was cancelled", done);
    case "paused":
      return check("Progress", "info", "The run is paused", done);
    case "queued":
      return check("Progress", "info", "The run waits for a worker", job.queue_position ? `number ${job.queue_position} in the queue` : done);
  }
  if (pace === null || lastStepAt === null) return check("Progress", "ok", "The run has started", done);
  const quiet = now - lastStepAt;
  if (quiet > Math.max(60, 6 * pace)) return check("Progress", "bad", "The run is stalled", `no step for ${duration(quiet)}; a step takes ${number(pace)} s`);
  return check("Progress", "ok", "The run is moving", done);
}

function check(topic, tone, says, because) {
  return { topic, tone, says, because };
}

/** Means over the first and the last tenth of a series (at least one point, at most fifty); null below 2 points. */
function ends(series) {
  if (!series || series.values.length < 2) return null;
  const size = Math.min(50, Math.max(1, Math.round(series.values.length / 10)));
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  return { early: mean(series.values.slice(0, size)), late: mean(series.values.slice(-size)) };
}

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
