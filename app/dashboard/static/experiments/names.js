// What an experiment is called by, and how far it is.
import { count, plural } from "../core/format.js";
import { html } from "../core/html.js";
import { Bar, statusName } from "../ui/parts.js";

/** 5 arms · 2 tasks · 3 seeds */
export function sizeOf({ definition: { arms, tasks, seeds } }) {
  return [plural(arms.length, "arm"), plural(tasks.length, "task"), plural(seeds.length, "seed")].join(" · ");
}

/** How many runs have ended, as a bar and in words. */
export function ProgressOf({ experiment }) {
  const { runs, ended, by_status: byStatus } = experiment.progress;
  const others = Object.entries(byStatus).filter(([status, n]) => n && status !== "succeeded");
  return html`<span class="num tiny soft">${count(ended)}<span class="muted"> / ${count(runs)}</span></span>
    <${Bar} status=${experiment.status} now=${ended} of=${runs} label="Runs that have ended" />
    ${others.length > 0 && html`<span class="muted tiny">${others.map(([status, n]) => `${count(n)} ${statusName(status).toLowerCase()}`).join(", ")}</span>`}`;
}
