// Rewards of many jobs in little: kept by job and step, loaded a few at a time.
import { get, jobPath } from "../core/api.js";
import { useEffect, useState } from "../core/html.js";

const AT_ONCE = 3;
const POINTS = 40;
const NAMES = { n: "train/N/reward", h: "train/H/reward" };
const kept = new Map(); // job id → {step, series}

/** A function from a job's id to its reward series, or undefined; those in sight are loaded. */
export function useSparks(jobs) {
  const [, setRound] = useState(0);
  const key = jobs.map((job) => `${job.id}@${job.progress.step}`).join();
  useEffect(() => {
    const aborter = new AbortController();
    const due = jobs.filter((job) => job.progress.step > 0 && kept.get(job.id)?.step !== job.progress.step);
    const next = async () => {
      for (let job = due.shift(); job && !aborter.signal.aborted; job = due.shift()) {
        try {
          kept.set(job.id, { step: job.progress.step, series: await load(job.id, aborter.signal) });
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

async function load(id, signal) {
  const query = { name: Object.values(NAMES), max_points: POINTS, layout: "columns" };
  const { data } = await get(jobPath(id, "/metrics"), query, signal);
  return Object.entries(NAMES).map(([mode, name]) => {
    const { steps, values } = data.find((one) => one.name === name);
    return { mode, steps, values };
  });
}
