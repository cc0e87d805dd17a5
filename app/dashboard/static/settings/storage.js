// What the project keeps on the disk, and what goes by itself.
import { get } from "../core/api.js";
import { bytes, percent, plural } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Bar, Problem, Skeleton } from "../ui/parts.js";

/** What is kept, how long, and what of it goes soon: `[name, since, thing]`. */
const KEPT = {
  rollouts: ["Rollouts", "after the job's end", "job"],
  rollout_archives: ["Archives of rollouts", "after the job's end", "job"],
  events: ["Events", "after the job's end", "job"],
  checkpoints: ["Checkpoints but the result", "after the job's end", "checkpoint"],
  eval_items: ["Items of evals' runs", "after the run's end", "run"],
  files: ["Uploads that no job needs", "after the upload", "file"],
};

export function Storage() {
  const asked = useLoad((signal) => get("/v1/storage", {}, signal), []);
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const use = asked.data;
  const parts = [
    ["runs", "Runs", use.jobs.bytes, `${plural(use.jobs.count, "job")}, ${plural(use.checkpoints.count, "checkpoint")}`],
    ["files", "Files", use.files.bytes, plural(use.files.count, "file")],
  ];
  const largest = use.largest_jobs;
  return html`<div class="stack">
    <section class="card pad stack" aria-label="In use">
      <div class="row wrap" style=${{ alignItems: "baseline", justifyContent: "space-between" }}><h2>In use</h2><span class="num big">${bytes(use.bytes)}</span></div>
      <div class="parts" role="img" aria-label=${parts.map(([, name, size]) => `${name} ${bytes(size)}`).join(", ")}>
        ${parts.map(([key, , size]) => size > 0 && html`<i key=${key} class=${key} style=${{ flexGrow: size }} />`)}
      </div>
      <dl class="shares">
        ${parts.map(([key, name, size, what]) => html`<div key=${key}><dt><i class=${key} />${name}</dt><dd class="num">${bytes(size)}<span class="muted"> · ${percent(use.bytes ? size / use.bytes : 0)}</span></dd><dd class="tiny muted">${what}</dd></div>`)}
      </dl>
    </section>
    ${largest.length > 0 &&
    html`<section class="card" aria-label="Largest runs">
      <div class="card-head"><h2>Largest runs</h2><span class="small muted">Deleting a job frees all of it.</span></div>
      <ul class="largest">${largest.map(
        (one) => html`<li key=${one.id}>
          <a class="ellipsis" href=${link("jobs", one.id)}>${one.name}</a>
          <${Bar} now=${one.bytes} of=${largest[0].bytes} label=${`${one.name}: ${bytes(one.bytes)}`} />
          <span class="num small nowrap">${bytes(one.bytes)}</span>
        </li>`,
      )}</ul>
    </section>`}
    <section class="card" aria-label="Removed automatically">
      <div class="card-head"><h2>Removed automatically</h2><span class="small muted">Set by the operator with <code>POLICYSPLIT_RETAIN_…_DAYS</code>.</span></div>
      <div class="table-box"><table class="jobs">
        <thead><tr><th scope="col">What</th><th scope="col">Kept</th><th scope="col" class="right">Goes within 7 days</th></tr></thead>
        <tbody>${use.retention.map((one) => html`<${Kept} key=${one.what} rule=${one} />`)}</tbody>
      </table></div>
    </section>
  </div>`;
}

function Kept({ rule }) {
  const [name, since, thing] = KEPT[rule.what];
  const some = rule.expiring_count > 0;
  const goes = `${thing === "job" ? "of " : ""}${plural(rule.expiring_count, thing)}${rule.expiring_bytes ? `, ${bytes(rule.expiring_bytes)}` : ""}`;
  return html`<tr>
    <td>${name}</td>
    <td data-label="kept">${rule.days === null ? html`<span class="muted">for ever</span>` : `${plural(rule.days, "day")} ${since}`}</td>
    <td class="right num end" data-label="within 7 days:">${some ? goes : html`<span class="muted">${rule.days === null ? "–" : "nothing"}</span>`}</td>
  </tr>`;
}
