// Runs of an eval side by side: the mean of each with its interval, and the difference from the first.
import { evalPath, get } from "../core/api.js";
import { count, number } from "../core/format.js";
import { cls, html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { setQuery } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Mode, Problem, Skeleton } from "../ui/parts.js";

const WIDTH = 200;
const HEIGHT = 22;

export function Compared({ id, runs, metric, criteria, done }) {
  const found = useLoad((signal) => get(evalPath(id, "", "/compare"), { runs, metric }, signal), [id, runs.join(), metric, done]);
  const metrics = [["passed", "Items that pass"], ...criteria.map(({ name }) => [name, `Reward of ${name}`])];
  return html`
    <div class="section-title">
      <h2>Side by side</h2>
      <p>Paired by item with the first run; intervals and p are corrected for all pairs shown.</p>
      <label class="row small nowrap">Compare by
        <select class="input" value=${metric} onChange=${(event) => setQuery({ metric: event.target.value === "passed" ? "" : event.target.value })}>
          ${metrics.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
        </select>
      </label>
    </div>
    ${found.error && html`<${Problem} error=${found.error} retry=${found.reload} />`}
    ${found.data ? html`<${Table} found=${found.data} />` : !found.error && html`<${Skeleton} height="120px" />`}
  `;
}

function Table({ found }) {
  const pairs = new Map(found.pairs.map((pair) => [pair.run_id, pair]));
  const ends = found.pairs.flatMap(({ low, high }) => [low, high]).filter((end) => end !== null);
  const range = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const better = found.pairs.filter((pair) => pair.separated);
  return html`
    <section class="card verdict" aria-label="Findings">
      <p class="headline">${found.pairs.length ? (better.length ? `${count(better.length)} of ${count(found.pairs.length)} differ from ${found.runs[0].name}` : `No run differs from ${found.runs[0].name}`) : "Choose two runs or more to compare them"}</p>
      ${found.pairs.map((pair) => html`<p key=${pair.run_id} class="small soft">${pair.words}</p>`)}
      ${found.notes.map((note) => html`<p key=${note} class="muted small note-line"><${Icon} name="info" />${note}</p>`)}
    </section>
    <div class="card table-box" tabindex="0" role="region" aria-label="Runs compared" style=${{ marginTop: "16px" }}>
      <table>
        <thead>
          <tr>
            <th scope="col">Run</th>
            <th scope="col">Mode</th>
            <th scope="col" class="right">Mean</th>
            <th scope="col" class="right">Items</th>
            <th scope="col">Less the first</th>
            <th scope="col" class="right">Difference</th>
            <th scope="col" class="right">Holm p</th>
          </tr>
        </thead>
        <tbody>
          ${found.runs.map((run) => html`<${Row} key=${run.run_id} run=${run} pair=${pairs.get(run.run_id)} range=${range} />`)}
        </tbody>
      </table>
    </div>
  `;
}

function Row({ run, pair, range }) {
  return html`<tr>
    <th scope="row" class="arm">${run.name}</th>
    <td>${run.mode ? html`<${Mode} mode=${run.mode} />` : html`<span class="muted">–</span>`}</td>
    <td class="right num nowrap">${fixed(run.mean)} <span class="muted">[${fixed(run.low)}, ${fixed(run.high)}]</span></td>
    <td class="right num">${count(run.items)}</td>
    <td>${pair && pair.delta !== null && html`<${Interval} one=${pair} range=${range} />`}</td>
    <td class="right num nowrap">${pair && pair.delta !== null && html`${signed(pair.delta)} <span class="muted">[${signed(pair.low)}, ${signed(pair.high)}]</span>`}</td>
    <td class="right num nowrap">${pair && pair.holm_p !== null && number(pair.holm_p, 2)}</td>
  </tr>`;
}

/** A difference on an axis that all pairs share; the line is at zero. */
function Interval({ one, range: [low, high] }) {
  const across = (value) => 8 + ((value - low) / (high - low || 1)) * (WIDTH - 16);
  const middle = HEIGHT / 2;
  return html`<svg class=${cls("interval", one.separated && "sure")} viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} width=${WIDTH} height=${HEIGHT} role="img" aria-label=${`${signed(one.delta)}, from ${signed(one.low)} to ${signed(one.high)}`}>
    <line class="zero" x1=${across(0)} x2=${across(0)} y1="0" y2=${HEIGHT} />
    ${one.low !== null && html`<line x1=${across(one.low)} x2=${across(one.high)} y1=${middle} y2=${middle} />`}
    <circle cx=${across(one.delta)} cy=${middle} r="4.5" />
  </svg>`;
}

const fixed = (value) => (value === null ? "–" : value.toFixed(3));
const signed = (value) => (value === null ? "unknown" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`);
