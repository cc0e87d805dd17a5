// What happened to a run, its checkpoints, and its configuration: a tab each.
import { get } from "../core/api.js";
import { ago, count, dateTime, duration, number, short } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { learnsFromRows, settingsOf } from "../jobs/names.js";
import { added, money } from "../settings/usage.js";
import { Code } from "../ui/code.js";
import { Skeleton } from "../ui/parts.js";

export function Events({ job, about }) {
  if (about === null) return html`<${Waiting} />`;
  return html`<section class="card" aria-label="Events"><${Messages} events=${about.timeline.events} /></section>
    <div class="section-title"><h2>Attempts</h2><p>a worker's turn each</p></div>
    <section class="card"><${Attempts} attempts=${about.timeline.attempts} /></section>
    <${Used} job=${job} />`;
}

/** What the job has used, and what that costs; added every minute while it runs. */
function Used({ job }) {
  const query = { job_ids: job.id, group_by: "job_id", start_time: job.created_at, limit: 180 };
  const asked = useLoad((signal) => get("/v1/usage", query, signal), [job.id, job.status]);
  const [used] = asked.data ? added(asked.data.data, "job_id") : [];
  if (!used) return null;
  const parts = [`${number(used.gpu_seconds / 3600)} GPU-hours`, `${duration(used.seconds)} of attempts`, `${short(used.trained_tokens)} tokens trained`, `${count(used.gradings)} gradings`];
  return html`<p class="small soft" style=${{ padding: "14px 2px 0" }}>Used: ${parts.join(" · ")}${used.amount && html` · <b>${money(used.amount)}</b>`}</p>`;
}

export function Checkpoints({ job, about }) {
  if (about === null) return html`<${Waiting} />`;
  return html`<section class="card" aria-label="Checkpoints"><${Saved} job=${job} checkpoints=${about.checkpoints} /></section>`;
}

export function Configuration({ job }) {
  const shown = { model: job.model, seed: job.seed, resources: job.resources, training_file: job.training_file, environment: job.environment, validation_file: job.validation_file, validation_environment: job.validation_environment, metadata: job.metadata, ...settingsOf(job) };
  return html`<${Code} title="Configuration" samples=${[["JSON", JSON.stringify(shown, null, 2)]]} />`;
}

const Waiting = () => html`<${Skeleton} height="160px" />`;

function Nothing({ children }) {
  return html`<p class="muted small" style=${{ padding: "18px" }}>${children}</p>`;
}

function Messages({ events }) {
  if (!events.length) return html`<${Nothing}>Nothing has happened yet.<//>`;
  return html`<ol class="events">
    ${[...events].reverse().map(
      (event) => html`<li key=${event.id} class=${`level-${event.level}`}>
        <span class="num muted tiny" title=${dateTime(event.created_at)}>${ago(event.created_at)}</span>
        <span class="num muted tiny">step ${count(event.step)}</span>
        <span>${event.level !== "info" && html`<b>${event.level === "warn" ? "Warning" : "Error"}: </b>`}${event.message}</span>
      </li>`,
    )}
  </ol>`;
}

function Attempts({ attempts }) {
  if (!attempts.length) return html`<${Nothing}>No worker has taken the job yet.<//>`;
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Attempts">
    <table>
      <thead>
        <tr><th class="right">Attempt</th><th>Worker</th><th>Began</th><th class="right">At step</th><th class="right">For</th><th>Outcome</th></tr>
      </thead>
      <tbody>
        ${attempts.map(
          (one) => html`<tr key=${one.attempt}>
            <td class="right num">${one.attempt}</td>
            <td class="mono">${one.worker}</td>
            <td>${dateTime(one.started_at)}</td>
            <td class="right num">${count(one.step)}</td>
            <td class="right num">${duration((one.ended_at ?? Date.now() / 1000) - one.started_at)}</td>
            <td>${one.outcome ?? (one.ended_at ? "–" : "running")}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Saved({ job, checkpoints }) {
  if (!checkpoints.length) return html`<${Nothing}>None saved yet; one is written at the end, on pausing, and at each validation.<//>`;
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Checkpoints">
    <table>
      <thead>
        <tr><th class="right">Step</th><th>Model</th><th class="right">${learnsFromRows(job) ? "Validation loss" : "Validation reward"}</th><th>Saved</th><th /></tr>
      </thead>
      <tbody>
        ${checkpoints.map(
          (one) => html`<tr key=${one.id}>
            <td class="right num">${count(one.step_number)}</td>
            <td><span class="mono">${one.fine_tuned_model_checkpoint}</span> ${one.is_result && job.fine_tuned_model && html`<span class="tag" title=${one.result_reason ?? ""}>the result</span>`}${one.result_reason && html`<div class="tiny muted">${one.result_reason}</div>`}</td>
            <td class="right num">${number(learnsFromRows(job) ? one.metrics.full_valid_loss : one.metrics.full_valid_mean_reward ?? one.metrics["eval/N/reward"])}</td>
            <td class="nowrap">${ago(one.created_at)}</td>
            <td class="right"><a class="btn tight" href=${link("playground", { model: one.fine_tuned_model_checkpoint })}>Talk to it</a></td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
