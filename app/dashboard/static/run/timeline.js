// What happened to a run, for its charts and its list of events.

/** Marks on the axis of steps from the job's timeline and its checkpoints. */
export function marksOf(timeline, checkpoints) {
  const attempts = timeline.attempts
    .filter(({ attempt }) => attempt > 1)
    .map(({ attempt, step, worker }) => ({ step, kind: "attempt", text: `attempt ${attempt} began on ${worker}` }));
  const events = timeline.events.filter((event) => event.level !== "info" || /paus|resum/i.test(event.message));
  const told = events.map(({ step, level, message }) => ({ step, kind: level === "info" ? "pause" : level, text: message }));
  const saved = checkpoints.map(({ step_number: step, result_reason: reason }) => ({ step, kind: "checkpoint", text: reason ? `checkpoint, the result: ${reason}` : "checkpoint" }));
  return [...attempts, ...told, ...saved];
}
