// The body of a request for an experiment: one about an earlier job's task, or about a new one; and as program text.
import { get, jobPath, JOBS_PATH, post } from "../core/api.js";
import { at, leaves, put } from "../core/paths.js";
import { yaml } from "../core/yaml.js";
import { cloneBody, newBody, REINFORCEMENT } from "../jobs/body.js";
import { armName } from "./arms.js";

const SEEDS = [0, 1, 2, 3, 4];
const SPLIT = { dev: 16, test: 64 };
const DATA = ["training_file", "environment", "validation_file", "validation_environment"];
/** What an experiment has settings of its own for. */
const TAKEN = ["budget", "evaluation.max_items", "hyperparameters"];
const CLAIM = ["policy_split", "grpo"];

/** What the form begins with: a job's settings and data, else a task whose answers are known. */
export async function newExperiment(model, job, signal) {
  if (!job) return about(newBody(model), null);
  const body = await lean(cloneBody(job), signal);
  const held = body.environment && sameTask(body.environment, body.validation_environment);
  const file = body.validation_file && (await get(`/v1/files/${encodeURIComponent(body.validation_file)}`, {}, signal).catch(() => null));
  // Items of the same task are drawn by the experiment, as many as it compares on.
  return about(held ? put(body, "validation_environment", undefined) : body, body.validation_environment?.size ?? file?.rows, file?.filename);
}

/** `rows`: how many validation items there are; null where they are drawn. */
function about(body, rows, filename) {
  const settings = TAKEN.reduce((all, path) => put(all, path, undefined), at(body, REINFORCEMENT));
  const { arms, base } = armsOf(settings);
  const data = Object.entries(pick(body, DATA)).map(([name, value]) => [name, typeof value === "string" ? value : drawn(value)]);
  const task = { name: nameOf(body.environment?.task ?? filename ?? "task"), ...Object.fromEntries(data) };
  return {
    name: titleOf({ arms, tasks: [task] }),
    model: body.model,
    arms,
    seeds: SEEDS,
    split: task.validation_environment || task.validation_file ? splitOf(rows) : SPLIT,
    budget: { steps: at(body, `${REINFORCEMENT}.budget.steps`) },
    reinforcement: base,
    tasks: [task],
  };
}

/** What it is called by itself: policy_split beside grpo on sums. */
export const titleOf = ({ arms, tasks }) => `${arms.map(armName).join(" beside ")} on ${(tasks ?? []).map((task) => task.name).join(", ")}`;

/** The job's own algorithm beside policy_split, or beside grpo. Arms of these two take the base's settings. */
function armsOf({ algorithm = {}, ...rest }) {
  const { type = "policy_split", ...settings } = algorithm;
  if (CLAIM.includes(type)) return { arms: CLAIM, base: Object.keys(settings).length ? { ...rest, algorithm } : rest };
  const own = Object.keys(settings).length ? { name: type, algorithm } : type;
  return { arms: ["policy_split", own], base: rest };
}

function splitOf(rows) {
  if (!rows || rows >= SPLIT.dev + SPLIT.test) return SPLIT;
  const dev = Math.max(1, Math.floor(rows / 5));
  return { dev, test: Math.max(1, rows - dev) };
}

/** A procedural task without what is a default. */
const drawn = ({ seed, instruction, ...rest }) => ({ ...rest, ...(seed && { seed }), ...(instruction && { instruction }) });
const sameTask = (one, other) => other && one.task === other.task && JSON.stringify(one.parameters) === JSON.stringify(other.parameters) && one.instruction === other.instruction;
const pick = (body, names) => Object.fromEntries(names.filter((name) => body[name]).map((name) => [name, body[name]]));
const nameOf = (text) => text.replace(/\.jsonl?$/, "").replace(/[^A-Za-z0-9._@%+-]+/g, "-").slice(0, 64);

/** Without what is a default: what the API makes of a body with the rest says whether that is all. */
async function lean(body, signal) {
  const whole = { ...body, method: { type: "reinforcement", reinforcement: { ...at(body, REINFORCEMENT) } } };
  const { grader, budget } = at(whole, REINFORCEMENT);
  const resolved = async (reinforcement) => {
    const asked = put(whole, REINFORCEMENT, reinforcement);
    return new Map(leaves((await post(`${JOBS_PATH}/validate`, asked, { signal })).method.reinforcement).map(([path, value]) => [path, JSON.stringify(value)]));
  };
  try {
    const defaults = await resolved({ grader, budget });
    const differ = leaves(at(whole, REINFORCEMENT)).filter(([path, value]) => !path.startsWith("grader.") && defaults.get(path) !== JSON.stringify(value));
    // A type first: it says what the settings beside it are.
    const chosen = differ.reduce((all, [path, value]) => put(all, path, value), { grader, budget });
    const algorithm = at(whole, `${REINFORCEMENT}.algorithm`);
    const shorter = algorithm?.type && chosen.algorithm ? { ...chosen, algorithm: { type: algorithm.type, ...chosen.algorithm } } : chosen;
    const [one, other] = await Promise.all([resolved(shorter), resolved(at(whole, REINFORCEMENT))]);
    const same = one.size === other.size && [...one].every(([path, value]) => other.get(path) === value);
    return same ? put(whole, REINFORCEMENT, shorter) : whole;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return whole; // what is wrong with it is told by the form
  }
}

/** The newest jobs that an experiment can begin with; those that succeeded first. */
export async function recentJobs(signal) {
  const list = async (status) => (await get(JOBS_PATH, { status, limit: 20 }, signal)).data;
  const [succeeded, others] = await Promise.all([list(["succeeded"]), list(["running", "paused", "failed"])]);
  return [...succeeded, ...others];
}

export const jobOf = (id, signal) => get(jobPath(id), {}, signal);

/** The same as a file for the command line, and as a request. */
export function samples(body, base, keyed) {
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", `'\\''`);
  const header = keyed ? ` \\\n  -H "authorization: Bearer $POLICYSPLIT_API_KEY"` : "";
  return [
    ["YAML", `# policysplit experiments run FILE.yaml\n${yaml(body)}`],
    ["curl", `curl ${base}/v1/experiments${header} \\\n  -H 'content-type: application/json' -d '${quoted}'`],
  ];
}
