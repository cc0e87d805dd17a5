// A new experiment: a form that begins with a job, is checked by the API while it is filled in, and the same as YAML.
import { EXPERIMENTS_PATH, get } from "../core/api.js";
import { plural } from "../core/format.js";
import { html } from "../core/html.js";
import { hasKey } from "../core/keys.js";
import { useLoad } from "../core/poll.js";
import { go, link, setQuery } from "../core/router.js";
import { useStore } from "../core/store.js";
import { armName, ArmsInput } from "../experiments/arms.js";
import { jobOf, newExperiment, recentJobs, samples, titleOf } from "../experiments/body.js";
import { SeedsInput } from "../experiments/seeds.js";
import { Size, sizeInWords } from "../experiments/size.js";
import { Data } from "../jobs/data.js";
import { GRADERS } from "../jobs/graders.js";
import { JsonInput, NumberInput, Select, TextInput, within } from "../jobs/inputs.js";
import { jobName } from "../jobs/names.js";
import { AnotherModel, missingModel, ModelInput, trainable } from "../models/choose.js";
import { Code } from "../ui/code.js";
import { Part, Send, useDraft } from "../ui/draft.js";
import { Field, Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

/** In the address: begin with a task of its own, although there are jobs. */
const NEW = "new";
/** Fields that the API's words are about, where they are not an input's own path. */
const AT = { split: "split.test", compare: "compare.against" };

export function ExperimentForm({ from }) {
  const start = useLoad(async (signal) => {
    const [models, jobs] = await Promise.all([get("/v1/models", {}, signal), recentJobs(signal)]);
    const names = trainable(models);
    const job = from === NEW ? null : from ? await jobOf(from, signal) : (jobs[0] ?? null);
    return { names, jobs: job && !jobs.some((one) => one.id === job.id) ? [job, ...jobs] : jobs, job, body: await newExperiment(names[0] ?? "", job, signal) };
  }, [from]);
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("experiments")}>Experiments</a> / New</nav>
    <div class="page-head">
      <div>
        <h1>New experiment</h1>
        <p>Each arm trains on each task with each seed, as one job; the report says which differences are more than chance.</p>
      </div>
    </div>
    ${start.error ? html`<${Problem} error=${start.error} retry=${start.reload} />` : start.data ? html`<${Form} start=${start.data} reload=${start.reload} />` : html`<${Skeleton} height="480px" />`}
  `;
}

function Form({ start, reload }) {
  const { names, jobs, job } = start;
  const keyed = useStore(hasKey);
  const draft = useDraft(start.body, EXPERIMENTS_PATH, {
    missing: missingModel,
    onDone: (made) => {
      say("The experiment has started");
      go("experiments", made.id);
    },
  });
  const { body, setBody } = draft;
  const { error } = draft.form;
  // Until somebody gives it another name, it is called by its arms.
  const set = (path, value) => draft.form.change(path === "arms" && body.name === titleOf(body) ? { arms: value, name: titleOf({ ...body, arms: value }) } : { [path]: value });
  const form = { ...draft.form, set, error: error && { message: error.message, param: AT[error.param] ?? error.param } };
  const arms = (body.arms ?? []).map(armName);
  const tasks = body.tasks ?? [];
  return html`<div class="columns">
    <form class="stack" onSubmit=${draft.send} novalidate>
      <${Part} title="What is compared">
        <div class="fields wide">
          <${Field} id="from" label="Start from" hint="Its settings and data apply to all arms">
            <select id="from" class="input" value=${job?.id ?? NEW} onChange=${(event) => setQuery({ from: event.target.value })}>
              ${jobs.map((one) => html`<option key=${one.id} value=${one.id}>${jobName(one)} · ${one.model}</option>`)}
              <option value=${NEW}>A task of its own</option>
            </select>
          <//>
        </div>
        <${TextInput} form=${form} path="name" label="Name" maxlength="256" />
        <${ArmsInput} form=${form} hint="policy_split, or else the first arm, is compared with each other arm. grpo_2x costs as much as policy_split." />
        <div class="fields">
          <${SeedsInput} form=${form} hint="A verdict needs at least three, better five" />
          <${NumberInput} form=${form} path="budget.steps" label="Steps of each run" />
          <${Select} form=${form} path="compare.against" label="Compare with" options=${[["", "every other arm"], ...arms.map((name) => [name, name])]} />
        </div>
      <//>
      <${Part} title="Model">
        <div class="fields wide"><${ModelInput} form=${form} names=${names} /></div>
        <${AnotherModel} form=${form} names=${names} reload=${reload} />
      <//>
      ${tasks.map((_, i) => html`<${Task} key=${i} form=${form} place=${`tasks.${i}`} title=${tasks.length > 1 ? `Task ${i + 1}` : "Task"} />`)}
      <${Part} title="Grader" about="Turns a response into a reward from 0 to 1.">
        <${JsonInput} form=${form} path="reinforcement.grader" label="Definition" rows=${7} hint=${`One of: ${Object.keys(GRADERS).join(", ")}. A task can have its own in the JSON below.`} />
      <//>
      <${Part} title="Evaluation and size">
        <div class="fields">
          <${NumberInput} form=${form} path="split.dev" label="Items for choosing settings" placeholder="16" hint="The first ones; claims do not use them" />
          <${NumberInput} form=${form} path="split.test" label="Items to compare on" placeholder="64" />
          <${NumberInput} form=${form} path="reinforcement.evaluation.samples_per_item" label="Samples per item" placeholder="1" />
          <${TextInput} form=${form} path="metric" label="Metric" placeholder="accuracy" hint="accuracy, reward, pass@K, distinct_right@K" />
          <${NumberInput} form=${form} path="reinforcement.rollout.prompts_per_step" label="Prompts per step" placeholder="8" />
          <${NumberInput} form=${form} path="reinforcement.rollout.samples_per_prompt" label="Samples per prompt" placeholder="8" />
          <${NumberInput} form=${form} path="reinforcement.rollout.max_response_tokens" label="Longest response, tokens" placeholder="256" />
          <${NumberInput} form=${form} path="reinforcement.optimizer.learning_rate" label="Learning rate" placeholder="3e-6" />
          <${NumberInput} form=${form} path="max_parallel" label="Jobs at a time" placeholder="all" />
          <${NumberInput} form=${form} path="budget.run_hours" label="Hours of all runs" placeholder="no limit" hint="No run starts after this" />
        </div>
      <//>
      <details class="card pad">
        <summary><h2 style=${{ display: "inline" }}>Everything, as JSON</h2></summary>
        <div style=${{ marginTop: "14px" }}>
          <${JsonInput} form=${form} path="body" value=${body} onValue=${(value) => value && setBody(value)} label="Body of the request" rows=${20} hint="Edits here change the form above, and vice versa. Add further tasks, and arms with their own settings, here." />
        </div>
      </details>
      <${Send} draft=${draft} verb="Create experiment" doing="Creating …">Ready: ${sizeInWords(draft.found)}.<//>
    </form>
    <div class="sticky stack">
      <${Size} found=${draft.found} of=${[plural(arms.length, "arm"), plural(tasks.length, "task"), plural([body.seeds].flat().length, "seed")]} />
      <${Code} title="The same as a file" samples=${samples(body, location.origin, keyed)} />
    </div>
  </div>`;
}

function Task({ form, place, title }) {
  const task = within(form, place);
  return html`<${Part} title=${title}>
    <div class="fields wide"><${TextInput} form=${task} path="name" label="Name of the task" maxlength="64" /></div>
    <${Data} form=${task} />
  <//>`;
}
