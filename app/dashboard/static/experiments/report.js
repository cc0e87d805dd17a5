// What may be said of an experiment's results, from the report of the API.
import { count, number } from "../core/format.js";
import { cls, html } from "../core/html.js";
import { Icon } from "../ui/icons.js";

const WIDTH = 220;
const HEIGHT = 22;

export function Report({ report }) {
  const { plan } = report;
  return html`
    <section class="card verdict" aria-label="Verdict">
      <p class="headline">${report.winner.sentence}</p>
      ${report.synergy.map(
        (rule) => html`<details key=${rule.task} class="small">
          <summary>Do two modes help each other on <b>${rule.task}</b>? ${{ true: "Claimed", false: "Not claimed", null: "Not decided" }[rule.claimed]}</summary>
          <div class="reasons">${rule.reasons.map((reason) => html`<p key=${reason} class="soft">${reason}</p>`)}</div>
        </details>`,
      )}
      ${report.notes.map((note) => html`<p key=${note} class="muted small note-line"><${Icon} name="info" />${note}</p>`)}
    </section>
    ${plan.tasks.map((task) => html`<${Task} key=${task} report=${report} task=${task} />`)}
  `;
}

function Task({ report, task }) {
  const { method, metric, mode } = report.plan;
  const arms = report.arms.filter((arm) => arm.task === task && arm.seeds.length);
  if (!arms.length) return null;
  const against = new Map(report.against_method.filter((one) => one.task === task).map((one) => [one.baseline, one]));
  const claim = report.claims.find((one) => one.task === task);
  const ends = [...against.values()].flatMap((one) => [one.low, one.high, one.adjusted_low, one.adjusted_high]).filter((end) => end !== null);
  const range = [Math.min(0, ...ends), Math.max(0, ...ends)];
  return html`
    <div class="section-title">
      <h2>${task}</h2>
      <p>${metric} of ${mode === "mix" ? "both modes mixed" : `mode ${mode}`} on the test items, mean ± deviation over seeds; ${method} − each arm with its 95 % interval, thin where corrected for all comparisons, filled where it separates them. Seeds and items are taken as drawn from many.</p>
    </div>
    <div class="card table-box" tabindex="0" role="region" aria-label=${`Arms on ${task}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">Arm</th>
            <th scope="col" class="right">Score</th>
            <th scope="col" class="right">Seeds</th>
            <th scope="col">${method} − arm</th>
            <th scope="col" class="right">Difference</th>
            <th scope="col" class="right">Holm p</th>
            <th scope="col">Better</th>
            <th scope="col" class="right">Tokens trained</th>
          </tr>
        </thead>
        <tbody>
          ${arms.map((arm) => html`<${Row} key=${arm.arm} arm=${arm} one=${against.get(arm.arm)} range=${range} role=${roleOf(arm, method, claim)} />`)}
        </tbody>
      </table>
    </div>
  `;
}

function roleOf(arm, method, claim) {
  if (arm.arm === method) return "the method";
  if (arm.arm === claim?.baseline) return claim.against.length > 1 ? "hardest to beat" : "to beat";
  return arm.exploratory ? "exploratory" : "";
}

function Row({ arm, one, range, role }) {
  return html`<tr>
    <th scope="row" class="arm">${arm.arm}${role && html` <span class="muted tiny">${role}</span>`}</th>
    <td class="right num nowrap">${fixed(arm.test?.mean)}${arm.seeds.length > 1 && html`<span class="muted"> ± ${fixed(arm.test?.std)}</span>`}</td>
    <td class="right num">${count(arm.seeds.length)}</td>
    <td>${one && html`<${Interval} one=${one} range=${range} />`}</td>
    <td class="right num nowrap">${one && html`${signed(one.delta)} <span class="muted">[${signed(one.low)}, ${signed(one.high)}]</span>`}</td>
    <td class="right num nowrap">${one && html`${number(one.holm_p, 2)} <span class="muted">/ ${number(one.level, 2)}</span>`}</td>
    <td class="nowrap">${one && betterOf(one)}</td>
    <td class="right num">${count(arm.cost.tokens_trained?.mean)}</td>
  </tr>`;
}

/** The arm that may be called better, or why none may. */
function betterOf(one) {
  if (one.winner) return one.winner;
  const why = one.withheld === null ? "not decided" : one.withheld === "exploratory" ? "exploratory" : "no verdict yet";
  return html`<span class="muted" title=${one.verdict}>${why}</span>`;
}

/** A difference on an axis that all arms of the task share; the line is at zero. */
function Interval({ one, range: [low, high] }) {
  const across = (value) => 8 + ((value - low) / (high - low || 1)) * (WIDTH - 16);
  const middle = HEIGHT / 2;
  return html`<svg class=${cls("interval", one.separated && "sure")} viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} width=${WIDTH} height=${HEIGHT} role="img" aria-label=${`${signed(one.delta)}, from ${signed(one.low)} to ${signed(one.high)}`}>
    <line class="zero" x1=${across(0)} x2=${across(0)} y1="0" y2=${HEIGHT} />
    ${one.low !== null &&
    html`<line class="outer" x1=${across(one.adjusted_low)} x2=${across(one.adjusted_high)} y1=${middle} y2=${middle} />
      <line x1=${across(one.low)} x2=${across(one.high)} y1=${middle} y2=${middle} />`}
    <circle cx=${across(one.delta)} cy=${middle} r="4.5" />
  </svg>`;
}

const fixed = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const signed = (value) => (value === null ? "unknown" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`);
