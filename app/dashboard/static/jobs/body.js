// The body of a request for a job: an empty one, one like an earlier job's, and as program text.
import { put } from "../core/paths.js";
import { GRADERS } from "./graders.js";
import { learnsFromRows, settingsOf } from "./names.js";

export const REINFORCEMENT = "method.reinforcement";

/** What the form begins with: a file's rows and the first method that can learn from them, else a task whose
 * answers are known. */
export function newBody(model, file) {
  const body = onTask(model);
  if (!file) return body;
  const { environment: _, ...rest } = body;
  const asked = put({ ...rest, training_file: file.id }, `${REINFORCEMENT}.grader`, GRADERS.string_check);
  return withMethod(asked, file.methods?.[0] ?? "reinforcement");
}

function onTask(model) {
  return {
    model,
    environment: { type: "environment", task: "chain_sum", parameters: { min_terms: 2, max_terms: 2, min_digits: 1, max_digits: 1 } },
    method: {
      type: "reinforcement",
      reinforcement: {
        grader: GRADERS.environment,
        algorithm: { type: "policy_split" },
        rollout: { prompts_per_step: 8, samples_per_prompt: 8, max_response_tokens: 128 },
        budget: { steps: 100 },
      },
    },
  };
}

const TAKEN = ["model", "training_file", "environment", "validation_file", "validation_environment", "suffix", "seed", "metadata"];

/** A body that would make the same job again. */
export function cloneBody(job) {
  const given = TAKEN.filter((name) => job[name] !== null && job[name] !== undefined);
  const body = { ...Object.fromEntries(given.map((name) => [name, strip(job[name])])), ...resourcesOf(job), method: strip(job.method) };
  // What was "auto" then is in the other keys by its number now; said twice it could contradict itself.
  const place = `method.${job.method.type}`;
  const { batch_size, beta } = settingsOf(job).hyperparameters ?? {};
  const only = learnsFromRows(job) ? { batch_size, ...(beta && { beta }) } : undefined;
  return put(put(body, `${place}.hyperparameters`, only), `${place}.budget.steps`, job.progress.total_steps);
}

/** What it ran on where that was more than one GPU; the launcher is chosen anew, for other numbers want others. */
function resourcesOf({ resources }) {
  if (!resources || (resources.gpus === 1 && resources.launcher !== "ray")) return {};
  const { launcher, ...numbers } = strip(resources);
  return { resources: launcher === "ray" ? { ...numbers, launcher } : numbers };
}

/** The body with a method of another type; what both have of it, and of the items, stays. */
export function withMethod(body, type) {
  if (body.method?.type === type) return body;
  if (type === "reinforcement") return { ...body, method: { type, reinforcement: { grader: GRADERS.string_check, algorithm: { type: "policy_split" } } } };
  const { environment: _, validation_environment: __, ...rest } = body;
  return { training_file: "", ...rest, method: { type, [type]: {} } };
}

/** Without nulls, which say nothing. */
function strip(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, inner]) => inner !== null)
      .map(([key, inner]) => [key, strip(inner)]),
  );
}

/** The same request with curl and with the openai SDK. */
export function samples(body, base, keyed) {
  const json = JSON.stringify(body, null, 2);
  const quoted = json.replaceAll("'", `'\\''`);
  const header = keyed ? ` \\\n  -H "authorization: Bearer $POLICYSPLIT_API_KEY"` : "";
  const curl = `curl ${base}/v1/fine_tuning/jobs${header} \\\n  -H 'content-type: application/json' -d '${quoted}'`;
  return [
    ["Python", pythonOf(body, base, keyed)],
    ["curl", curl],
    ["JSON", json],
  ];
}

const OURS = ["environment", "validation_environment", "resources"];

function pythonOf(body, base, keyed) {
  const own = Object.entries(body).filter(([key]) => !OURS.includes(key));
  const extra = Object.fromEntries(Object.entries(body).filter(([key]) => OURS.includes(key)));
  const lines = own.map(([key, value]) => `    ${key}=${literal(value, 4)},`);
  // The SDK wants a training file by type; a procedural task has none.
  if (!body.training_file) lines.splice(1, 0, "    training_file=openai.omit,");
  if (Object.keys(extra).length) lines.push(`    extra_body=${literal(extra, 4)},`);
  const key = keyed ? `os.environ["POLICYSPLIT_API_KEY"]` : `"none"`;
  return [
    ...(keyed ? ["import os", ""] : []),
    "import openai",
    "",
    `client = openai.OpenAI(base_url="${base}/v1", api_key=${key})`,
    "",
    "job = client.fine_tuning.jobs.create(",
    ...lines,
    ")",
    "print(job.id)",
  ].join("\n");
}

/** A JSON value as Python writes it. */
function literal(value, indent) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const inner = list ? value.map((one) => literal(one, indent + 4)) : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${literal(one, indent + 4)}`);
  const [open, close] = list ? ["[", "]"] : ["{", "}"];
  const flat = `${open}${inner.join(", ")}${close}`;
  if (indent + flat.length < 90 && !flat.includes("\n")) return flat;
  const pad = " ".repeat(indent);
  return `${open}\n${inner.map((one) => `${pad}    ${one},`).join("\n")}\n${pad}${close}`;
}
