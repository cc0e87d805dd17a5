// The top of a run's page: what it is, how far it is, what can be done.
import { ago, count, dateTime, duration, short } from "../core/format.js";
import { html } from "../core/html.js";
import { link } from "../core/router.js";
import { Actions } from "../jobs/actions.js";
import { algorithmOf, experimentOf, jobName, learnsFromRows, settingsOf, share, timing } from "../jobs/names.js";
import { Icon } from "../ui/icons.js";
import { Bar, Id, Problem, Status, Tabs, isActive } from "../ui/parts.js";

const TABS = [
  ["", "Overview"],
  ["charts", "Charts"],
  ["rollouts", "Rollouts"],
  ["checkpoints", "Checkpoints"],
  ["events", "Events"],
  ["configuration", "Configuration"],
];

/** What stays on all of a run's tabs. */
export function Head({ job, tab, live, onChange }) {
  const { step, total_steps: total } = job.progress;
  const experiment = experimentOf(job);
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("jobs")}>Jobs</a> / ${experiment && html`<a href=${link("experiments", experiment)}>its experiment</a> / `}<span class="mono">${job.id}</span></nav>
    <div class="page-head run-head">
      <div class="grow">
        <div class="row wrap" style=${{ gap: "6px 12px" }}>
          <h1>${jobName(job)}</h1>
          <${Status} job=${job} pill />
          <span class="num small soft">step ${count(step)} <span class="muted">of ${count(total)}</span></span>
          ${live && isActive(job) && html`<span class="live tiny muted" title="New steps appear automatically">live</span>`}
        </div>
        <p class="small">${job.model} · ${algorithmOf(job)} · ${source(job)}</p>
      </div>
      <div class="actions">
        <a class="btn" href=${link("compare", { jobs: job.id })}><${Icon} name="compare" />Compare</a>
        ${!learnsFromRows(job) && html`<a class="btn" href=${link("experiments", "new", { from: job.id })} title="Compare its method with others over several seeds"><${Icon} name="experiments" />Experiment</a>`}
        <${Actions} job=${job} onChange=${onChange} />
      </div>
    </div>
    ${job.error?.message && html`<div style=${{ marginBottom: "16px" }}><${Problem} error=${job.error} /></div>`}
    <${Tabs} label="Of this run" at=${tab} tabs=${learnsFromRows(job) ? TABS.filter(([name]) => name !== "rollouts") : TABS} to=${(name) => link("jobs", job.id, ...(name ? [name] : []))} />
  `;
}

/** How far it is, and what came of it. */
export function Facts({ job }) {
  const { step, total_steps: total } = job.progress;
  const [what, time] = timing(job);
  const facts = [
    job.status !== "paused" && time !== "–" && [what === "took" ? "Took" : what === "queue" ? "Queue" : "Time left", time],
    isActive(job) && job.started_at && ["Running for", duration(Date.now() / 1000 - job.started_at)],
    job.trained_tokens && ["Trained tokens", short(job.trained_tokens)],
    ["Attempts", count(job.attempt)],
    ["Created", html`<span title=${dateTime(job.created_at)}>${ago(job.created_at)}</span>`],
  ].filter(Boolean);
  return html`<section class="card run-facts" aria-label="Progress">
    <${Bar} status=${job.status} now=${step} of=${total} share=${share(job)} label="Steps" />
    <dl>
      ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}
      ${job.fine_tuned_model &&
      html`<div class="model">
        <dt>Model</dt>
        <dd class="row wrap">
          <${Id} value=${job.fine_tuned_model} />
          <a class="btn tight" href=${link("playground", { model: job.fine_tuned_model })}>${isTalkedTo(job)}</a>
        </dd>
      </div>`}
    </dl>
  </section>`;
}

/** A mode that was not trained is offered by the playground, and not here. */
const isTalkedTo = (job) => (learnsFromRows(job) && settingsOf(job).modes !== "both" ? "Talk to it" : "Talk to both modes");

function source(job) {
  if (job.environment) return `task ${job.environment.task}`;
  return job.training_file ?? "";
}
