// A run in plain words: what its curves say, each sentence with the number behind it and, where something is
// wrong, what to try. Pure: numbers in, words out.
import { count, duration, number, percent } from "../core/format.js";
import { learnsFromRows } from "../jobs/names.js";
import { gains } from "./gains.js";

/** The series that a verdict reads. */
export const READS = [
  "train/loss",
  "eval/loss",
  "train/N/reward",
  "train/H/reward",
  "train/N/entropy_nats",
  "train/H/entropy_nats",
  "diag/kl_H_N/prefix_H",
  "train/zero_variance",
  "train/step_seconds",
  "eval/N/reward",
  "eval/H/reward",
  "eval/N/graded",
  "eval/H/graded",
];

/** Different right answers in k samples. */
const DISTINCT = /^eval\/(N|H)\/distinct_right@(\d+)$/;

/** Below this many nats a mode decides almost every token with certainty. */
const COLLAPSED = 0.1;
const SPLIT_KL = 0.2;
/** Points of a series below which its course is not judged. */
const FEW = 10;

/**
 * `[{topic, tone, says, because, tries}]` from a job and `get(name)` → `{steps, values}`; `now` in unix seconds,
 * `lastStepAt` when the last step was heard of, or null; `pair` from `distinctPair`. `tries`: `{text, page}` or null.
 */
export function verdict(job, get, now, lastStepAt, pair) {
  const own = learnsFromRows(job) ? [lessons(get)] : [...gains(job, get), splitting(get), entropy(get), signal(get), variety(get, pair)];
  return [...own, progress(job, get, now, lastStepAt)].filter(Boolean);
}

/** `{k, N, H}`: the series of different right answers in the most samples that both modes have; null: none. */
export function distinctPair(names) {
  const ks = { N: [], H: [] };
  for (const name of names) {
    const found = DISTINCT.exec(name);
    if (found) ks[found[1]].push(Number(found[2]));
  }
  const both = ks.N.filter((k) => ks.H.includes(k));
  if (!both.length) return null;
  const k = Math.max(...both);
  return { k, N: `eval/N/distinct_right@${k}`, H: `eval/H/distinct_right@${k}` };
}

/** The sentence on top: the worst first; else what is well; else that nothing can be said. */
export function headline(checks) {
  for (const tone of ["bad", "warn"]) {
    const found = checks.find((check) => check.tone === tone);
    if (found) return found.says;
  }
  const well = checks.filter((check) => check.tone === "ok" && check.topic !== "Progress");
  return well.map((check) => check.says).slice(0, 2).join(". ") || "Too early to tell";
}

/** Whether rows are learnt, and not by heart: by the loss on rows that are not trained, where there are any. */
function lessons(get) {
  const validation = get("eval/loss");
  if (!validation || validation.values.length < 2) {
    const loss = ends(get("train/loss"));
    if (loss === null) return null;
    const because = `training, not validated: ${number(loss.early)} → ${number(loss.late)}`;
    if (loss.points < FEW) return tooEarly("Loss", "whether the rows are learnt", because, loss.points);
    return loss.late < loss.early ? check("Loss", "ok", "The training loss falls", because) : warning("Loss", "The training loss does not fall", because, "A higher learning rate, or more epochs.", "clone");
  }
  const { steps, values } = validation;
  const [first, last, lowest] = [values[0], values.at(-1), Math.min(...values)];
  const at = steps[values.indexOf(lowest)];
  const because = `on validation rows: ${number(first)} → ${number(last)}, lowest ${number(lowest)} at step ${count(at)}`;
  if (last > 1.05 * lowest && lowest < first) return warning("Loss", "The validation loss rises again", because, "Fewer epochs; the checkpoint of the lowest loss is the result unless checkpoint.select says otherwise.", "checkpoints");
  if (last < first) return check("Loss", "ok", "The rows are being learnt", because);
  return warning("Loss", "The validation loss does not fall", because, "Another learning rate, or rows that are more like those of the validation file.", "clone");
}

function splitting(get) {
  const kl = ends(get("diag/kl_H_N/prefix_H"));
  const [n, h] = [ends(get("train/N/entropy_nats")), ends(get("train/H/entropy_nats"))];
  if (kl === null || n === null || h === null) return null;
  const gap = h.late - n.late;
  const because = `KL(H‖N) ${number(kl.early)} → ${number(kl.late)} nats; high-entropy mode ${gap >= 0 ? "+" : "−"}${number(Math.abs(gap))} nats of entropy over normal`;
  if (kl.points < FEW) return tooEarly("Modes", "whether the modes split", because, kl.points);
  const more = "Raise algorithm.eta, or ask for more in high_entropy_prompt.";
  if (kl.late >= SPLIT_KL && gap <= 0) return warning("Modes", "The modes differ, but the high-entropy mode is not the more varied one", because, "Raise algorithm.alpha: the bonus then rewards entropy rather than divergence.", "clone");
  if (kl.late >= SPLIT_KL) return check("Modes", "ok", kl.late > 1.25 * kl.early ? "The modes are splitting" : "The modes are apart", because);
  if (kl.late < 0.6 * kl.early) return warning("Modes", "The modes are converging", because, more, "clone");
  return warning("Modes", "The modes have not split", because, more, "clone");
}

function entropy(get) {
  const modes = [["normal", "N"], ["high-entropy", "H"]].map(([name, letter]) => [name, ends(get(`train/${letter}/entropy_nats`))]);
  const known = modes.filter(([, value]) => value !== null);
  if (!known.length) return null;
  const because = known.map(([name, one]) => `${name} ${number(one.early)} → ${number(one.late)} nats`).join(", ");
  const exploding = known.find(([, one]) => one.late > 2 * one.early && one.late - one.early > 1);
  if (exploding) return fault("Entropy", `Entropy of the ${exploding[0]} mode is exploding`, because, "Lower algorithm.eta or the learning rate.", "clone");
  const [name, value] = known.at(-1);
  if (value.late < COLLAPSED || value.late < 0.1 * value.early) return fault("Entropy", `Entropy of the ${name} mode has collapsed`, because, "Lower the learning rate, or raise algorithm.eta and the samples per prompt.", "clone");
  if (value.points < FEW) return tooEarly("Entropy", "where the entropy goes", because, value.points);
  const normal = known[0][1];
  if (known.length > 1 && normal.late < COLLAPSED) return check("Entropy", "info", "The normal mode is certain, the other explores", because);
  return check("Entropy", "ok", "Entropy is within bounds", because);
}

/** Whether there is anything to prefer: groups whose responses all get the same reward teach nothing. */
function signal(get) {
  const flat = ends(get("train/zero_variance"));
  if (flat === null) return null;
  const because = `all responses got the same reward in ${percent(flat.late)} of the groups, at first in ${percent(flat.early)}`;
  if (flat.points < FEW) return tooEarly("Signal", "how many groups teach something", because, flat.points);
  if (flat.late <= 0.85) return check("Signal", "ok", flat.late < 0.5 ? "Most groups have differing rewards" : "Some groups have differing rewards", because);
  const rewards = ["N", "H"].map((mode) => ends(get(`train/${mode}/reward`))?.late ?? 0);
  if (Math.max(...rewards) < 0.05) return fault("Signal", "There is no reward to learn from", because, "Read what the model writes and try the grader on it; easier items or a larger model help if it is right.", "rollouts");
  return warning("Signal", "Hardly any group has differing rewards", because, "Harder items, or more samples per prompt.", "clone");
}

function variety(get, pair) {
  if (!pair) return null;
  const [n, h] = [get(pair.N), get(pair.H)];
  if (!n?.values.length || !h?.values.length) return null;
  const [normal, high] = [n.values.at(-1), h.values.at(-1)];
  const says = `H has ${number(high)} different right answers in ${pair.k}, N ${number(normal)}`;
  const because = `on validation items; at first H ${number(h.values[0])}, N ${number(n.values[0])}`;
  return check("Different right answers", high > 1.2 * normal && high >= h.values[0] ? "ok" : "info", says, because);
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
      return fault("Progress", "The run failed", done, "The reason is above; the last events show what led to it.", "events");
    case "cancelled":
      return check("Progress", "info", "The run was cancelled", done);
    case "paused":
      return check("Progress", "info", "The run is paused", done);
    case "queued":
      return check("Progress", "info", "The run waits for a worker", job.queue_position ? `number ${job.queue_position} in the queue` : done);
  }
  if (pace === null || lastStepAt === null) return check("Progress", "ok", "The run has started", done);
  const quiet = now - lastStepAt;
  if (quiet > Math.max(60, 6 * pace)) return fault("Progress", "The run is stalled", `no step for ${duration(quiet)}; a step takes ${number(pace)} s`, "See which worker has it; pausing and resuming gives it to another.", "events");
  return check("Progress", "ok", "The run is moving", done);
}

function check(topic, tone, says, because, tries = null) {
  return { topic, tone, says, because, tries };
}

const warning = (topic, says, because, text, page) => check(topic, "warn", says, because, { text, page });
const fault = (topic, says, because, text, page) => check(topic, "bad", says, because, { text, page });
const tooEarly = (topic, what, because, points) => check(topic, "info", `Too early to tell ${what}`, `${because}; ${count(points)} steps so far`);

/** Means over the first and the last tenth of a series (at least one point, at most fifty); null below 2 points. */
function ends(series) {
  if (!series || series.values.length < 2) return null;
  const size = Math.min(50, Math.max(1, Math.round(series.values.length / 10)));
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  return { early: mean(series.values.slice(0, size)), late: mean(series.values.slice(-size)), points: series.values.length };
}

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
