// A new job, or one like another: a form, checked by the API while it is filled in, and the same as code.
import { get, jobPath, JOBS_PATH, post } from "../core/api.js";
import { plural } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { hasKey } from "../core/keys.js";
import { at, put } from "../core/paths.js";
import { useLoad, useSettled } from "../core/poll.js";
import { go, link } from "../core/router.js";
import { useStore } from "../core/store.js";
import { cloneBody, newBody, REINFORCEMENT as R, samples } from "../jobs/body.js";
import { Data } from "../jobs/data.js";
import { GRADERS } from "../jobs/graders.js";
import { JsonInput, NumberInput, Select, TextInput } from "../jobs/inputs.js";
import { Code } from "../ui/code.js";
import { GetModel } from "../models/get.js";
import { Icon } from "../ui/icons.js";
import { Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const ALGORITHMS = ["policy_split", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "entropy_bonus", "adaptive_entropy", "entropy_advantage", "edge_grpo", "clip_cov", "kl_cov", "forking_tokens"];

export function JobForm({ from, file }) {
  const start = useLoad(async (signal) => {
    const [models, job] = await Promise.all([get("/v1/models", {}, signal), from && get(jobPath(from), {}, signal)]);
    const names = models.data.filter((model) => model.mode === "normal").map((model) => model.id);
    return { names, body: job ? cloneBody(job) : newBody(names[0] ?? "", file) };
  }, [from]);
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
  const [body, setBody] = useState(initial);
  const [busy, setBusy] = useState(false);
  const checked = useCheck(body);
  const keyed = useStore(hasKey);
  // Pressing twice, or again after a lost answer, makes one job.
  const attempt = useRef({ body: null, key: null });
  const form = {
    body,
    error: checked.error,
    set: (path, value) => setBody((old) => put(old, path, value)),
    change: (values) => setBody((old) => Object.entries(values).reduce((all, [path, value]) => put(all, path, value), old)),
  };
  const create = async (event) => {
    event.preventDefault();
    setBusy(true);
    if (attempt.current.body !== JSON.stringify(body)) attempt.current = { body: JSON.stringify(body), key: crypto.randomUUID() };
    try {
      const job = await post(JOBS_PATH, body, { headers: { "idempotency-key": attempt.current.key } });
      say("The job is queued");
      go("jobs", job.id);
    } catch (error) {
      checked.setError(error);
      setBusy(false);
    }
  };
  const getModel = html`<${GetModel}
    onDone=${(name) => {
      form.set("model", name);
      reload();
      say(`${name} is here`);
    }}
  />`;
  const algorithm = at(body, `${R}.algorithm.type`) ?? "policy_split";
  return html`<div class="columns">
    <form class="stack" onSubmit=${create} novalidate>
      <${Part} title="Model">
        <div class="fields wide">
          <${Select} form=${form} path="model" label="Model to train" options=${(names.includes(body.model) ? names : [body.model, ...names]).map((name) => [name, name || "No model is there yet"])} />
          <${TextInput} form=${form} path="suffix" label="Suffix" hint="A part of the result's name" placeholder="sums" maxlength="64" />
          <${NumberInput} form=${form} path="seed" label="Seed" placeholder="random" />
        </div>
        ${names.length ? html`<details><summary class="small label">Get another model</summary>${getModel}</details>` : getModel}
      <//>
      <${Part} title="Items"><${Data} form=${form} /><//>
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
          <${NumberInput} form=${form} path=${`${R}.rollout.prompts_per_step`} label="Prompts a step" placeholder="8" />
          <${NumberInput} form=${form} path=${`${R}.rollout.samples_per_prompt`} label="Samples a prompt" placeholder="8" hint="Half of them in each mode" />
          <${NumberInput} form=${form} path=${`${R}.rollout.max_response_tokens`} label="Longest response, tokens" placeholder="256" />
          <${NumberInput} form=${form} path=${`${R}.evaluation.interval`} label="Steps between validations" placeholder="auto" />
          <${NumberInput} form=${form} path=${`${R}.checkpoint.interval`} label="Steps between checkpoints" placeholder="end only" />
        </div>
      <//>
      <details class="card pad">
        <summary><h2 style=${{ display: "inline" }}>Everything, as JSON</h2></summary>
        <div style=${{ marginTop: "14px" }}>
          <${JsonInput} form=${form} path="body" value=${body} onValue=${(value) => value && setBody(value)} label="Body of the request" rows=${20} hint="The form above edits this, and this edits the form." />
        </div>
      </details>
      <div class="form-end">
        <${Verdict} checked=${checked} />
        <button type="submit" class="btn primary" disabled=${busy || (checked.error && !checked.stale)}>${busy ? "Creating …" : "Create job"}</button>
      </div>
    </form>
    <div class="sticky"><${Code} title="The same in code" samples=${samples(body, location.origin, keyed)} /></div>
  </div>`;
}

function Part({ title, about, children }) {
  return html`<section class="card pad stack" aria-label=${title}>
    <div>
      <h2>${title}</h2>
      ${about && html`<p class="small muted">${about}</p>`}
    </div>
    ${children}
  </section>`;
}

function Verdict({ checked }) {
  if (checked.stale) return html`<p class="small muted" role="status">Checking …</p>`;
  if (checked.error) return html`<div class="note tone-bad grow" role="status"><${Icon} name="bad" /><span>${checked.error.message}</span></div>`;
  return html`<div class="note tone-ok grow" role="status"><${Icon} name="ok" /><span>Ready: ${plural(checked.steps, "step")}.</span></div>`;
}

/** What the API says of the body, a moment after it was last changed. */
function useCheck(body) {
  const settled = useSettled(body, 350);
  const [state, setState] = useState({ of: null, error: null, steps: null });
  useEffect(() => {
    if (!settled.model) {
      setState({ of: settled, error: { message: "No model is here yet: get one from the list of models.", param: "model" }, steps: null });
      return undefined;
    }
    const aborter = new AbortController();
    post(`${JOBS_PATH}/validate`, settled, { signal: aborter.signal })
      .then((found) => setState({ of: settled, error: null, steps: found.total_steps }))
      .catch((error) => error.name !== "AbortError" && setState({ of: settled, error, steps: null }));
    return () => aborter.abort();
  }, [settled]);
  return { ...state, stale: state.of !== body, setError: (error) => setState({ of: body, error, steps: null }) };
}
