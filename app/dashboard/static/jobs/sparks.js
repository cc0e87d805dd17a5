// Rewards of many jobs in little, or losses of those that learn from rows: kept by job and step, loaded a few at a time.
import { get, jobPath } from "../core/api.js";
import { useEffect, useState } from "../core/html.js";
import { learnsFromRows } from "./names.js";

const AT_ONCE = 3;
const POINTS = 40;
const REWARDS = { n: "train/N/reward", h: "train/H/reward" };
const LOSS = { loss: "train/loss" };
const kept = new Map(); // job id → {step, series}

/** A function from a job's id to its series, or undefined; those in sight are loaded. */
export function useSparks(jobs) {
  const [, setRound] = useState(0);
  const key = jobs.map((job) => `${job.id}@${job.progress.step}`).join();
  useEffect(() => {
    const aborter = new AbortController();
    const due = jobs.filter((job) => job.progress.step > 0 && kept.get(job.id)?.step !== job.progress.step);
    const next = async () => {
      for (let job = due.shift(); job && !aborter.signal.aborted; job = due.shift()) {
        try {
          kept.set(job.id, { step: job.progress.step, series: await load(job, aborter.signal) });
          setRound((n) => n + 1);
        } catch {
          return; // the list itself tells what is wrong
        }
      }
    };
    for (let i = 0; i < AT_ONCE; i++) next();
    return () => aborter.abort();
  }, [key]);
  return (id) => kept.get(id)?.series;
}

async function load(job, signal) {
  const names = learnsFromRows(job) ? LOSS : REWARDS;
  const query = { name: Object.values(names), max_points: POINTS, layout: "columns" };
  const { data } = await get(jobPath(job.id, "/metrics"), query, signal);
  return Object.entries(names).map(([mode, name]) => {
    const { steps, values } = data.find((one) => one.name === name);
    return { mode, steps, values };
  });
}
