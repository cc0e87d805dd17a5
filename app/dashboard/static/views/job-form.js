// A new job, or one like another: a form, checked by the API while it is filled in, and the same as code.
import { get, jobPath, JOBS_PATH } from "../core/api.js";
import { plural } from "../core/format.js";
import { html } from "../core/html.js";
import { hasKey } from "../core/keys.js";
import { at } from "../core/paths.js";
import { useLoad } from "../core/poll.js";
import { go, link } from "../core/router.js";
import { useStore } from "../core/store.js";
import { cloneBody, newBody, REINFORCEMENT as R, samples, withMethod } from "../jobs/body.js";
import { Data } from "../jobs/data.js";
import { GRADERS } from "../jobs/graders.js";
import { JsonInput, NumberInput, Select, TextInput } from "../jobs/inputs.js";
import { ALGORITHMS, METHODS } from "../jobs/methods.js";
import { AnotherModel, missingModel, ModelInput, trainable } from "../models/choose.js";
import { Code } from "../ui/code.js";
import { Part, Send, useDraft } from "../ui/draft.js";
import { Problem, Segments, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

export function JobForm({ from, file }) {
  const start = useLoad(async (signal) => {
    const [models, job, rows] = await Promise.all([get("/v1/models", {}, signal), from && get(jobPath(from), {}, signal), file && get(`/v1/files/${encodeURIComponent(file)}`, {}, signal)]);
    const names = trainable(models);
    return { names, body: job ? cloneBody(job) : newBody(names[0] ?? "", rows) };
  }, [from, file]);
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("jobs")}>Jobs</a> / ${from ? "Clone" : "New"}</nav>
    <div class="page-head">
      <div>
        <h1>${from ? "Clone with changes" : "New job"}</h1>
        <p>${from ? html`Begins with the configuration of <span class="mono">${from}</span>.` : "What to train, on what, and how it is graded. Everything left empty has a default."}</p>
      </div>
    </div>
    ${start.error ? html`<${Problem} error=${start.error} retry=${start.reload} />` : start.data ? html`<${Form} names=${start.data.names} initial=${start.data.body} reload=${start.reload} />` : html`<${Skeleton} height="480px" />`}
  `;
}

function Form({ names, initial, reload }) {
  const keyed = useStore(hasKey);
  const draft = useDraft(initial, JOBS_PATH, {
    missing: missingModel,
    onDone: (job) => {
      say("The job is queued");
      go("jobs", job.id);
    },
  });
  const { body, setBody, form } = draft;
  const type = body.method?.type ?? "supervised";
  return html`<div class="columns">
    <form class="stack" onSubmit=${draft.send} novalidate>
      <${Part} title="Model">
        <div class="fields wide">
          <${ModelInput} form=${form} names=${names} />
          <${TextInput} form=${form} path="suffix" label="Suffix" hint="A part of the result's name" placeholder="sums" maxlength="64" />
          <${NumberInput} form=${form} path="seed" label="Seed" placeholder="random" />
          <${NumberInput} form=${form} path="resources.gpus" label="GPUs" placeholder="1" min="1" hint="Of the whole job, or slots if workers have no GPUs" />
          <${NumberInput} form=${form} path="resources.nodes" label="Hosts" placeholder="1" min="1" hint="More than one needs a Ray cluster" />
        </div>
        <${AnotherModel} form=${form} names=${names} reload=${reload} />
      <//>
      <${Part} title="Learns from" about=${METHODS[type][1]}>
        <${Segments} label="Method" value=${type} options=${Object.entries(METHODS).map(([name, [called]]) => [name, called])} onChange=${(wanted) => setBody(withMethod(body, wanted))} />
      <//>
      <${Part} title="Items"><${Data} form=${form} method=${type} /><//>
      ${type === "reinforcement" ? html`<${Reinforcement} form=${form} />` : html`<${Taught} form=${form} type=${type} />`}
      <details class="card pad">
        <summary><h2 style=${{ display: "inline" }}>Everything, as JSON</h2></summary>
        <div style=${{ marginTop: "14px" }}>
          <${JsonInput} form=${form} path="body" value=${body} onValue=${(value) => value && setBody(value)} label="Body of the request" rows=${20} hint="Edits here change the form above, and vice versa." />
        </div>
      </details>
      <${Send} draft=${draft} verb="Create job" doing="Creating …">Ready: ${plural(draft.found?.total_steps ?? 0, "step")}.<//>
    </form>
    <div class="sticky"><${Code} title="The same in code" samples=${samples(body, location.origin, keyed)} /></div>
  </div>`;
}

function Taught({ form, type }) {
  const place = `method.${type}`;
  return html`
    <${Part} title="Method">
      <div class="fields">
        ${type === "supervised" && html`<${Select} form=${form} path=${`${place}.modes`} label="Prompts" options=${[["", "As the rows are"], ["both", "Both modes"]]} />`}
        ${type === "dpo" && html`<${NumberInput} form=${form} path=${`${place}.hyperparameters.beta`} label="β" placeholder="0.1" hint="Penalty for distance from the starting model" />`}
        <${NumberInput} form=${form} path=${`${place}.optimizer.learning_rate`} label="Learning rate" placeholder=${type === "dpo" ? "1e-6; LoRA 1e-5" : "1e-5; LoRA 1e-4"} />
        <${NumberInput} form=${form} path=${`${place}.lora.rank`} label="Rank of LoRA" placeholder="all weights" />
      </div>
    <//>
    <${Part} title="Size">
      <div class="fields">
        <${NumberInput} form=${form} path=${`${place}.hyperparameters.n_epochs`} label="Epochs" placeholder="auto" />
        <${NumberInput} form=${form} path=${`${place}.hyperparameters.batch_size`} label="Rows per step" placeholder="auto" />
        <${NumberInput} form=${form} path=${`${place}.max_tokens`} label="Longest row, tokens" placeholder="the model's context" />
        <${NumberInput} form=${form} path=${`${place}.evaluation.interval`} label="Steps between validations" placeholder="an epoch" />
        <${NumberInput} form=${form} path=${`${place}.checkpoint.interval`} label="Steps between checkpoints" placeholder="an epoch" />
      </div>
    <//>
  `;
}

function Reinforcement({ form }) {
  const algorithm = at(form.body, `${R}.algorithm.type`) ?? "policy_split";
  return html`
    <${Part} title="Grader" about="Turns a response into a reward from 0 to 1.">
      <div class="fields wide">
        <${Select} form=${form} path=${`${R}.grader.type`} label="Type" options=${Object.keys(GRADERS).map((name) => [name, name])} onChange=${(type) => form.set(`${R}.grader`, GRADERS[type])} />
      </div>
      <${JsonInput} form=${form} path=${`${R}.grader`} label="Definition" rows=${9} hint="Templates read {{item.x}} (the row) and {{sample.output_text}} (the response)." />
    <//>
    <${Part} title="Method">
      <div class="fields">
        <${Select} form=${form} path=${`${R}.algorithm.type`} label="Algorithm" options=${ALGORITHMS.map((name) => [name, name])} onChange=${(type) => form.set(`${R}.algorithm`, { type })} />
        ${algorithm === "policy_split" &&
        html`<${NumberInput} form=${form} path=${`${R}.algorithm.eta`} label="η, size of the bonus" placeholder="0.03" />
          <${NumberInput} form=${form} path=${`${R}.algorithm.alpha`} label="α, entropy against divergence" placeholder="0.5" />
          <${NumberInput} form=${form} path=${`${R}.algorithm.kappa`} label="κ, bonus at most |A|/κ" placeholder="2" />`}
        <${NumberInput} form=${form} path=${`${R}.optimizer.learning_rate`} label="Learning rate" placeholder="3e-6" />
      </div>
    <//>
    <${Part} title="Size">
      <div class="fields">
        <${NumberInput} form=${form} path=${`${R}.budget.steps`} label="Steps" />
        <${NumberInput} form=${form} path=${`${R}.rollout.prompts_per_step`} label="Prompts per step" placeholder="8" />
        <${NumberInput} form=${form} path=${`${R}.rollout.samples_per_prompt`} label="Samples per prompt" placeholder="8" hint="Half of them in each mode" />
        <${NumberInput} form=${form} path=${`${R}.rollout.max_response_tokens`} label="Longest response, tokens" placeholder="256" />
        <${NumberInput} form=${form} path=${`${R}.evaluation.interval`} label="Steps between validations" placeholder="auto" />
        <${NumberInput} form=${form} path=${`${R}.checkpoint.interval`} label="Steps between checkpoints" placeholder="end only" />
      </div>
    <//>
  `;
}
