// A bar a day.
import { html } from "../core/html.js";

const WIDTH = 720;
const HEIGHT = 150;

/** `days`: `[{start_time, value}]`; `shown(value)` words one. */
export function Bars({ title, days, shown }) {
  const most = Math.max(...days.map((one) => one.value), 0);
  const total = days.reduce((sum, one) => sum + one.value, 0);
  const step = WIDTH / days.length;
  const name = (at) => new Date(at * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  return html`<section class="card pad stack" aria-label=${title}>
    <div class="row wrap" style=${{ alignItems: "baseline", justifyContent: "space-between" }}><h2>${title}</h2><span class="num big">${shown(total)}</span></div>
    <svg class="bars" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${`${title} by day, ${shown(most)} at most`}>
      <line x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} />
      ${days.map(({ start_time: at, value }, index) => {
        const high = most ? (value / most) * (HEIGHT - 8) : 0;
        return html`<g key=${at}><title>${`${name(at)}: ${shown(value)}`}</title>
          <rect class="hit" x=${index * step} y="0" width=${step} height=${HEIGHT} />
          ${value > 0 && html`<rect x=${index * step + step * 0.14} y=${HEIGHT - Math.max(high, 1.5)} width=${step * 0.72} height=${Math.max(high, 1.5)} rx="2" />`}
        </g>`;
      })}
    </svg>
    <div class="row tiny muted num" style=${{ justifyContent: "space-between" }}><span>${name(days[0].start_time)}</span><span>${name(days.at(-1).start_time)}</span></div>
  </section>`;
}
