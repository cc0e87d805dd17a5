// Which settings of several jobs differ.
import { leaves } from "../core/paths.js";
import { settingsOf } from "../jobs/names.js";

const TOP = ["model", "seed", "training_file", "environment", "validation_file", "validation_environment", "resources"];

/** `[{path, values, differs}]`, a value a job, undefined where it has no such setting. */
export function differences(jobs) {
  const flat = jobs.map((job) => {
    const top = Object.fromEntries(TOP.map((name) => [name, job[name]]));
    return new Map(leaves({ ...top, ...settingsOf(job) }).filter(([, value]) => value !== null));
  });
  const paths = [...new Set(flat.flatMap((one) => [...one.keys()]))].sort();
  return paths.map((path) => {
    const values = flat.map((one) => one.get(path));
    return { path, values, differs: new Set(values.map((value) => JSON.stringify(value))).size > 1 };
  });
}
