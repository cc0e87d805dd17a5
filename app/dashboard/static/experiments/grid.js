// The runs of an experiment: an arm a row, a task and a seed a column.
import { cls, html } from "../core/html.js";
import { link } from "../core/router.js";
import { runName, share } from "../jobs/names.js";
import { statusName, statusTone } from "../ui/parts.js";

// Said by shape as well as by colour.
const SIGNS = { succeeded: "✓", failed: "✕", refused: "✕", cancelled: "–", paused: "‖" };

export function Grid({ experiment }) {
  const { arms, tasks, seeds } = experiment.definition;
  const at = new Map(experiment.runs.map((run) => [keyOf(run.arm, run.task, run.seed), run]));
  return html`<section class="card table-box" tabindex="0" role="region" aria-label="Runs">
    <table class="grid">
      <thead>
        <tr>
          <th scope="col">Arm</th>
          ${tasks.map((task) => html`<th key=${task.name} scope="colgroup" colspan=${seeds.length} class="task">${task.name}</th>`)}
        </tr>
        <tr>
          <td class="muted tiny right">seed</td>
          ${tasks.map((task) => seeds.map((seed) => html`<th key=${`${task.name} ${seed}`} scope="col" class="seed num">${seed}</th>`))}
        </tr>
      </thead>
      <tbody>
        ${arms.map(
          (arm) => html`<tr key=${arm.name}>
            <th scope="row">${arm.name}</th>
            ${tasks.map((task) =>
              seeds.map((seed) => {
                const run = at.get(keyOf(arm.name, task.name, seed));
                return html`<td key=${`${task.name} ${seed}`}>${run && html`<${Cell} run=${run} />`}</td>`;
              }),
            )}
          </tr>`,
        )}
      </tbody>
    </table>
  </section>`;
}

const keyOf = (arm, task, seed) => JSON.stringify([arm, task, seed]);

function Cell({ run }) {
  const running = run.status === "running";
  const sign = running ? `${Math.floor(100 * share(run))}` : (SIGNS[run.status] ?? "·");
  const step = running ? `, step ${run.progress.step} of ${run.progress.total_steps}` : "";
  const words = `${runName(run.arm, run.task, run.seed)}: ${statusName(run.status)}${step}${run.error ? `. ${run.error.message}` : ""}`;
  const props = { class: cls("cell num", statusTone(run.status)), title: words };
  return run.job_id
    ? html`<a ...${props} aria-label=${words} href=${link("jobs", run.job_id)}>${sign}</a>`
    : html`<span ...${props} role="img" aria-label=${words}>${sign}</span>`;
}
