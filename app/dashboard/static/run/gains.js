// What each mode has gained: by validation where there is any, else by training, and whether chance alone could
// have done it. Pure: numbers in, words out.
import { count, number } from "../core/format.js";

const MODES = [["N", "normal"], ["H", "high-entropy"]];
/** Fewer responses than this at either end say nothing. */
const FEWEST = 30;
/** A gain below this is none, however many responses it stands on. */
const LEAST = 0.02;
/** Where chance alone could move a mean by more than this, "it has not moved" would be too much said. */
const COARSE = 0.1;
const SATURATED = 0.97;

/** A check a mode, as `verdict` has them. */
export function gains(job, get) {
  return MODES.map(([letter, name]) => gain(job, get, letter, name)).filter(Boolean);
}

function gain(job, get, letter, name) {
  const validation = course(get(`eval/${letter}/reward`), gradedAt(job, get(`eval/${letter}/graded`)));
  const found = validation ?? course(get(`train/${letter}/reward`), sampledAt(job, letter));
  if (found === null) return null;
  const { early, late } = found;
  const where = validation ? "validation" : "training, not validated";
  const chance = 2 * Math.sqrt(early.variance + late.variance);
  const because = `${where}: ${number(early.mean)} → ${number(late.mean)} (± ${number(chance, 2)} by chance), of ${of(early)} and ${of(late)}`;
  const check = (tone, says, text, page) => ({ topic: `Reward, ${name}`, tone, says, because, tries: text ? { text, page } : null });
  const mode = `The ${name} mode`;
  if (Math.min(early.responses, late.responses) < FEWEST) return check("info", `Too early to tell whether the ${name} mode learns`);
  const change = late.mean - early.mean;
  if (change < -Math.max(chance, LEAST)) return check("warn", `${mode} has fallen`, letter === "H" ? "Lower algorithm.eta or the learning rate, and read what it writes now." : "Lower the learning rate; the best checkpoint may be an earlier one.", letter === "H" ? "rollouts" : "checkpoints");
  if (change > Math.max(chance, LEAST)) return check("ok", late.mean > SATURATED ? `${mode} has learnt the task` : `${mode} is learning`);
  if (late.mean > SATURATED) return check("warn", `${mode} was right from the start`, "Harder items: there is nothing left to learn here.", "clone");
  if (chance > COARSE) return check("info", `Too few responses to tell whether the ${name} mode learns`);
  const { step, total_steps: total } = job.progress;
  if (step < total / 5) return check("info", `Too early to tell whether the ${name} mode learns`);
  return check("warn", `${mode} has not moved`, "A higher learning rate, more samples per prompt, or items of which it solves some.", "clone");
}

const of = ({ responses, from, to }) => `${count(responses)} responses at ${from === to ? `step ${count(to)}` : `steps ${count(from)}–${count(to)}`}`;

/** Responses behind the mean at a step of validation; what was planned where the run does not say. */
function gradedAt(job, graded) {
  const { max_items: items = 64, samples_per_item: samples = 1 } = job.method?.reinforcement?.evaluation ?? {};
  const known = new Map(graded?.steps.map((step, i) => [step, graded.values[i]]));
  return (step) => known.get(step) ?? items * samples;
}

/** Responses behind the mean at a training step. */
function sampledAt(job, letter) {
  const { rollout = {}, algorithm = {} } = job.method?.reinforcement ?? {};
  const { prompts_per_step: prompts = 8, samples_per_prompt: samples = 8 } = rollout;
  const high = algorithm.high_entropy_samples ?? samples / 2;
  const own = letter === "H" ? high : samples - high;
  return () => prompts * (own || samples);
}

/** `{early, late}` of `{mean, variance, responses, from, to}`: the first and the last tenth of a series. */
function course(series, responsesAt) {
  if (!series || series.values.length < 2) return null;
  const size = Math.min(50, Math.max(1, Math.round(series.values.length / 10)));
  const part = (from, to) => summary(series.steps.slice(from, to), series.values.slice(from, to), responsesAt);
  return { early: part(0, size), late: part(-size) };
}

function summary(steps, values, responsesAt) {
  const weights = steps.map(responsesAt);
  const responses = weights.reduce((sum, one) => sum + one, 0);
  const mean = values.reduce((sum, value, i) => sum + value * weights[i], 0) / responses;
  return { mean, responses, from: steps[0], to: steps.at(-1), variance: varianceOf(mean, values, responses) };
}

/**
 * Of a mean, at the most. Rewards from 0 to 1 with mean m vary by no more than m(1 − m), which is shrunk towards a half,
 * so that a few zeros are not taken for certainty; others by what the points themselves do.
 */
function varianceOf(mean, values, responses) {
  if (values.every((value) => value >= 0 && value <= 1)) {
    const shrunk = (mean * responses + 1) / (responses + 2);
    return (shrunk * (1 - shrunk)) / responses;
  }
  const around = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1);
  return around / values.length;
}
