// The verdict of a run on its page.
import { html, useEffect, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { useStore } from "../core/store.js";
import { Icon } from "../ui/icons.js";
import { Skeleton } from "../ui/parts.js";
import { READS, distinctPair, headline, verdict } from "./verdict.js";

const TONES = { ok: "ok", warn: "wait", bad: "bad", info: "idle" };
const ICONS = { ok: "ok", warn: "warn", bad: "bad", info: "info" };
const PLACES = {
  clone: (id) => ["Clone with changes", link("jobs", "new", { from: id })],
  rollouts: (id) => ["Read the rollouts", link("jobs", id, "rollouts")],
  checkpoints: (id) => ["See the checkpoints", link("jobs", id, "checkpoints")],
  events: (id) => ["See the events", link("jobs", id, "events")],
};

export function Verdict({ job, source, lastStepAt }) {
  const [, setRound] = useState(0);
  const names = (useStore(source.names) ?? []).map((one) => one.name);
  const pair = distinctPair(names);
  const reads = pair ? [...READS, pair.N, pair.H] : READS;
  useEffect(() => {
    source.want(reads);
    const timer = setInterval(() => setRound((n) => n + 1), 5000);
    const stop = source.subscribe(reads, () => setRound((n) => n + 1));
    return () => {
      stop();
      clearInterval(timer);
    };
  }, [source, pair?.k]);
  // Half of the series would make half a verdict.
  const waiting = source.names.get() === null || reads.some((name) => names.includes(name) && source.get(name) === undefined);
  const checks = waiting ? [] : verdict(job, (name) => source.get(name), Date.now() / 1000, lastStepAt, pair);
  return html`<section class="card verdict" aria-label="Verdict" aria-live="polite" aria-busy=${String(waiting)}>
    ${waiting ? html`<p class="headline"><${Skeleton} height="22px" width="320px" /></p>` : checks.length > 1 && html`<p class="headline">${headline(checks)}.</p>`}
    <ul>
      ${waiting ? [0, 1, 2, 3].map((i) => html`<li key=${i}><${Skeleton} height="42px" /></li>`) : checks.map((check) => html`<${Check} key=${check.topic} check=${check} id=${job.id} />`)}
    </ul>
  </section>`;
}

function Check({ check: { tone, says, because, tries }, id }) {
  const [text, address] = tries ? PLACES[tries.page](id) : [];
  return html`<li class=${`tone-${TONES[tone]}`}>
    <${Icon} name=${ICONS[tone]} />
    <div>
      <b>${says}</b>
      <span class="num">${because}</span>
      ${tries && html`<p class="tries"><b>What to try:</b> ${tries.text} <a href=${address}>${text}</a></p>`}
    </div>
  </li>`;
}
