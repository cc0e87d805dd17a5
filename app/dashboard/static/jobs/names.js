// How a job is called and timed.
import { duration } from "../core/format.js";
import { isOver } from "../ui/parts.js";

/** The id of the experiment that the job is a run of, or null. */
export function experimentOf(job) {
  const { experiment, arm, task } = job.metadata ?? {};
  return experiment?.startsWith("exp_") && arm && task ? experiment : null;
}

/** What people call a run of an experiment. */
export const runName = (arm, task, seed) => `${arm} on ${task}, seed ${seed}`;

/** What people call a job; of an experiment's runs several have the same name but for the seed. */
export function jobName(job) {
  if (!job.suffix && experimentOf(job)) return runName(job.metadata.arm, job.metadata.task, job.seed);
  return job.name || job.suffix || job.model;
}

/** The settings of the job's method. */
export const settingsOf = (job) => job.method?.[job.method.type] ?? {};

/** Whether it learns from rows that say what to answer, and not from rewards. */
export const learnsFromRows = (job) => (job.method?.type ?? "reinforcement") !== "reinforcement";

export function algorithmOf(job) {
  return learnsFromRows(job) ? job.method.type : settingsOf(job).algorithm?.type ?? "policy_split";
}

/** `[what, how long]`: the time left of a running job, the time that a finished one took. */
export function timing(job, now = Date.now() / 1000) {
  if (isOver(job)) return ["took", job.started_at ? duration(job.finished_at - job.started_at) : "–"];
  if (job.status === "queued") return ["queue", job.queue_position ? `no. ${job.queue_position}` : "–"];
  if (job.estimated_finish) return ["left", duration(job.estimated_finish - now)];
  return ["left", "–"];
}

export function share(job) {
  const { step, total_steps: total } = job.progress;
  return total ? step / total : isOver(job) ? 1 : 0;
}
