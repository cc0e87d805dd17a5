// One experiment: its runs as they go, and what may be said of them.
import { blob, experimentPath, get, post } from "../core/api.js";
import { dateTime } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { save } from "../charts/export.js";
import { Extend } from "../experiments/extend.js";
import { Grid } from "../experiments/grid.js";
import { ProgressOf, sizeOf } from "../experiments/names.js";
import { Report } from "../experiments/report.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Id, Problem, Skeleton, Status } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

export function Experiment({ id }) {
  const asked = useLoad((signal) => get(experimentPath(id), {}, signal), [id], (found) => (found?.status === "running" ? 2500 : 15_000));
  const experiment = asked.data;
  const { runs, ended, by_status: byStatus } = experiment?.progress ?? { by_status: {} };
  const done = byStatus.succeeded ?? 0;
  // It takes the service a moment, and changes with the runs that end and with those that are added.
  const found = useLoad(async (signal) => (done ? get(experimentPath(id, "/report"), {}, signal) : null), [id, runs, ended]);
  if (asked.error && !experiment) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!experiment) return html`<${Skeleton} height="240px" />`;
  return html`
    <${Head} experiment=${experiment} reload=${asked.reload} />
    ${asked.error && html`<div style=${{ marginBottom: "16px" }}><${Problem} error=${asked.error} /></div>`}
    <${Grid} experiment=${experiment} />
    <div class="section-title"><h2>Findings</h2></div>
    ${found.error && html`<${Problem} error=${found.error} retry=${found.reload} />`}
    ${found.data ? html`<${Report} report=${found.data} />` : !found.error && (done ? html`<${Skeleton} height="120px" />` : html`<p class="muted">Nothing yet: no run has succeeded.</p>`)}
  `;
}

function Head({ experiment, reload }) {
  const { id, name, status } = experiment;
  const [extending, setExtending] = useState(false);
  const cancel = async () => {
    try {
      await post(experimentPath(id, "/cancel"));
      say("Cancelling the experiment");
      reload();
    } catch (error) {
      say(error.message);
    }
  };
  const fetchReport = async (format) => {
    try {
      save(await blob(experimentPath(id, "/report"), { format }), `${id}.${format}`);
    } catch (error) {
      say(error.message);
    }
  };
  return html`
    <p class="crumb"><a href=${link("experiments")}>Experiments</a> / <${Id} value=${id} /></p>
    <div class="page-head">
      <div>
        <h1>${name}</h1>
        <p>${sizeOf(experiment)} · ${dateTime(experiment.created_at)}</p>
      </div>
      <div class="actions">
        ${status !== "cancelled" && html`<button type="button" class="btn" aria-expanded=${String(extending)} onClick=${() => setExtending(!extending)}><${Icon} name="plus" />Seeds or arms</button>`}
        ${["html", "csv", "json"].map(
          (format) => html`<button key=${format} type="button" class="btn" onClick=${() => fetchReport(format)} title=${`The report as ${format.toUpperCase()}`}>
            <${Icon} name="download" />${format.toUpperCase()}
          </button>`,
        )}
        ${["running", "out_of_budget"].includes(status) &&
        html`<${Confirm} confirm="Cancel the experiment" question="No further runs start, and running ones are cancelled. Finished ones are kept." onConfirm=${cancel}>
          <${Icon} name="stop" />Cancel
        <//>`}
      </div>
    </div>
    ${extending && html`<${Extend} experiment=${experiment} onDone=${() => { setExtending(false); reload(); }} onClose=${() => setExtending(false)} />`}
    <section class="card pad experiment-facts" aria-label="Progress">
      <${Status} job=${experiment} pill />
      <div class="grow"><${ProgressOf} experiment=${experiment} /></div>
    </section>
  `;
}
