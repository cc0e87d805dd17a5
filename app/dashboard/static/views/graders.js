// A grader on one response: edit, check, run.
import { get, jobPath, post } from "../core/api.js";
import { count, number } from "../core/format.js";
import { html, useEffect, useState } from "../core/html.js";
import { GRADERS } from "../jobs/graders.js";
import { JsonInput, Select } from "../jobs/inputs.js";
import { Icon } from "../ui/icons.js";
import { Empty, Field, Problem } from "../ui/parts.js";

const PATH = "/v1/fine_tuning/alpha/graders";
const ITEM = { question: "What is 6 + 5?", answer: "11" };

export function Graders({ query }) {
  const [body, setBody] = useState({ grader: GRADERS.string_check, item: ITEM, model_sample: "6 + 5 is 11." });
  const [result, setResult] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const change = (values) => {
    setBody((old) => ({ ...old, ...values }));
    setError(null);
  };
  useEffect(() => {
    fromJob(query.get("job"), query.get("rollout"), query.get("answer")).then(change, setError);
  }, [query.get("job"), query.get("rollout"), query.get("answer")]);
  const form = { body, error, set: (path, value) => change({ [path]: value }) };
  const run = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setResult(await post(`${PATH}/run`, body));
      setError(null);
    } catch (problem) {
      setResult(null);
      setError(problem);
    }
    setBusy(false);
  };
  return html`
    <div class="page-head">
      <div>
        <h1>Graders</h1>
        <p>Try a grader on one response before a job trains on it.</p>
      </div>
    </div>
    <form class="columns" onSubmit=${run}>
      <div class="stack">
        <section class="card pad stack" aria-label="Grader">
          <h2>Grader</h2>
          <div class="fields wide"><${Select} form=${form} path="grader.type" label="Start from" options=${Object.keys(GRADERS).map((name) => [name, name])} onChange=${(type) => change({ grader: GRADERS[type] })} /></div>
          <${JsonInput} form=${form} path="grader" label="Definition" rows=${12} />
        </section>
        <section class="card pad stack" aria-label="Response">
          <h2>Response</h2>
          <${Field} id="model_sample" label="What the model wrote" hint="Templates read it as {{sample.output_text}}">
            <textarea id="model_sample" class="input" rows="4" value=${body.model_sample} onInput=${(event) => change({ model_sample: event.target.value })} />
          <//>
          <${JsonInput} form=${form} path="item" label="Item" rows=${5} hint="The row: templates read {{item.answer}}" />
        </section>
        <div class="row"><button type="submit" class="btn primary" disabled=${busy}><${Icon} name="play" />${busy ? "Grading …" : "Grade it"}</button></div>
      </div>
      <div class="sticky" aria-live="polite">
        ${error && html`<${Problem} error=${error} />`}
        ${result ? html`<${Result} result=${result} />` : !error && html`<div class="card"><${Empty} icon="graders" title="No reward yet">Grade the response to see its reward, the underlying scores, and any errors.<//></div>`}
      </div>
    </form>
  `;
}

function Result({ result }) {
  const { metadata } = result;
  const failed = Object.entries(metadata.errors).filter(([, value]) => value === true).map(([name]) => name);
  const scores = Object.entries(result.sub_rewards);
  const facts = [
    ["Grader", metadata.name],
    ["Type", metadata.type],
    ["Time", `${number(metadata.execution_time * 1000)} ms`],
    metadata.token_usage !== null && ["Judge's tokens", count(metadata.token_usage)],
    metadata.sampled_model_name && ["Judge", metadata.sampled_model_name],
  ].filter(Boolean);
  return html`<section class="card pad stack" aria-label="Result">
    <div>
      <p class="small muted">Reward</p>
      <p class="big num">${failed.length ? "none" : number(result.reward, 4)}</p>
      ${!failed.length && html`<div class="bar" style=${{ marginTop: "8px" }}><i style=${{ width: `${100 * Math.min(1, Math.max(0, result.reward))}%` }} /></div>`}
    </div>
    ${failed.length > 0 &&
    html`<div class="note tone-bad"><${Icon} name="bad" /><div><b>${failed.join(", ")}</b><br />${metadata.error ?? "The response could not be graded."}<br /><span class="muted">In training such a response is left out, not counted as zero.</span></div></div>`}
    ${scores.length > 0 &&
    html`<div class="table-box"><table>
      <thead><tr><th>Part</th><th class="right">Reward</th></tr></thead>
      <tbody>${scores.map(([name, value]) => html`<tr key=${name}><td>${name}</td><td class="right num">${number(value, 4)}</td></tr>`)}</tbody>
    </table></div>`}
    <dl class="facts small">${facts.map(([name, value]) => html`<div key=${name}><dt class="muted">${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
  </section>`;
}

/** A job's grader and one of its responses, as far as they are asked for. */
async function fromJob(jobId, rolloutId, answer) {
  if (!jobId) return {};
  const [job, rollout] = await Promise.all([get(jobPath(jobId)), rolloutId && get(jobPath(jobId, `/rollouts/${rolloutId}`))]);
  if (!job.method.reinforcement) return {}; // it learns from rows
  const values = { grader: job.method.reinforcement.grader };
  const response = rollout ? rollout.response : answer;
  return response === null ? values : { ...values, model_sample: response };
}
