// What an experiment is called by, and how far it is.
import { count, plural } from "../core/format.js";
import { cls, html } from "../core/html.js";
import { statusName, statusTone } from "../ui/parts.js";

/** 5 arms · 2 tasks · 3 seeds */
export function sizeOf({ definition: { arms, tasks, seeds } }) {
  return [plural(arms.length, "arm"), plural(tasks.length, "task"), plural(seeds.length, "seed")].join(" · ");
}

/** How many runs have ended, as a bar and in words. */
export function ProgressOf({ experiment }) {
  const { runs, ended, by_status: byStatus } = experiment.progress;
  const others = Object.entries(byStatus).filter(([status, n]) => n && status !== "succeeded");
  return html`<span class="num tiny soft">${count(ended)}<span class="muted"> / ${count(runs)}</span></span>
    <div class=${cls("bar", statusTone(experiment.status))} role="progressbar" aria-valuemin="0" aria-valuemax=${runs} aria-valuenow=${ended} aria-label="Runs that have ended">
      <i style=${{ width: `${runs ? (100 * ended) / runs : 0}%` }} />
    </div>
    ${others.length > 0 && html`<span class="muted tiny">${others.map(([status, n]) => `${count(n)} ${statusName(status).toLowerCase()}`).join(", ")}</span>`}`;
}
