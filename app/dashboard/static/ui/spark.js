// The course of a reward, a line a mode, or of a loss, in the height of a table row.
import { html } from "../core/html.js";
import { number } from "../core/format.js";

/** What a line is called, and the variable of its colour. */
const LINES = { n: ["normal ", "--n"], h: ["high-entropy ", "--h"], loss: ["", "--c1"] };
const WIDTH = 108;
const HEIGHT = 28;

/** `series`: `[{steps, values, mode: "n" | "h" | "loss"}]`, drawn on one scale. */
export function Spark({ series, label }) {
  const shown = series.filter((one) => one.values.length);
  if (!shown.length) return html`<span class="muted">–</span>`;
  const all = shown.flatMap((one) => one.values);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const last = Math.max(...shown.map((one) => one.steps.at(-1)));
  const first = Math.min(...shown.map((one) => one.steps[0]));
  const x = (step) => 2 + ((step - first) / Math.max(1, last - first)) * (WIDTH - 6);
  const y = (value) => HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6);
  const text = shown.map((one) => `${LINES[one.mode][0]}${number(one.values.at(-1))}`);
  return html`<svg class="spark" width=${WIDTH} height=${HEIGHT} role="img" aria-label="${label}: ${text.join(", ")}">
    ${shown.map(({ steps, values, mode }) => {
      const points = steps.map((step, i) => `${x(step).toFixed(1)},${y(values[i]).toFixed(1)}`).join(" ");
      return html`<g key=${mode} fill="none" stroke=${`var(${LINES[mode][1]})`}>
        <polyline points=${points} stroke-width="1.5" stroke-linejoin="round" />
        <circle cx=${x(steps.at(-1))} cy=${y(values.at(-1))} r="2" fill=${`var(${LINES[mode][1]})`} stroke="none" />
      </g>`;
    })}
  </svg>`;
}
