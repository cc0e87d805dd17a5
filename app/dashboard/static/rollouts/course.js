// One prompt over the training: its rewards by step, and two steps beside each other.
import { count, number } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { Spark } from "../ui/spark.js";
import { Response } from "./group.js";

const MODES = { normal: "n", "high-entropy": "h" };

/** `groups`: those of one item, by step. */
export function Course({ jobId, groups }) {
  const [picked, setPicked] = useState({});
  const first = groups.find((group) => group.key === picked.first) ?? groups[0];
  const second = groups.find((group) => group.key === picked.second) ?? groups.at(-1);
  const series = Object.entries(MODES).map(([mode, letter]) => {
    const points = groups.map(({ rows }) => [rows[0].step, meanReward(rows, mode)]).filter(([, value]) => value !== null);
    return { mode: letter, steps: points.map(([step]) => step), values: points.map(([, value]) => value) };
  });
  return html`<section class="card pad stack" aria-label="Over training">
    <div class="row wrap"><h3 class="grow">Over training <span class="muted small">${count(groups.length)} times sampled</span></h3><${Spark} series=${series} label="Mean reward by step" /></div>
    <div class="sides">
      ${[["first", first], ["second", second]].map(
        ([place, group]) => html`<div key=${place} class="side-list">
          <label class="row small">Step
            <select class="input" style=${{ width: "auto" }} aria-label=${`Step, ${place}`} value=${group.key} onChange=${(event) => setPicked({ ...picked, [place]: event.target.value })}>
              ${groups.map(({ key, rows }) => html`<option key=${key} value=${key}>${rows[0].step} · N ${number(meanReward(rows, "normal"), 2)} · H ${number(meanReward(rows, "high-entropy"), 2)}</option>`)}
            </select>
          </label>
          ${group.rows.map((row) => html`<${Response} key=${row.id} jobId=${jobId} row=${row} tint="none" />`)}
        </div>`,
      )}
    </div>
  </section>`;
}

function meanReward(rows, mode) {
  const rewards = rows.filter((row) => row.mode === mode && row.reward !== null).map((row) => row.reward);
  return rewards.length ? rewards.reduce((sum, one) => sum + one, 0) / rewards.length : null;
}
