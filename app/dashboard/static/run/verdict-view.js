// The verdict of a run on its page.
import { html, useEffect, useState } from "../core/html.js";
import { Icon } from "../ui/icons.js";
import { Skeleton } from "../ui/parts.js";
import { READS, headline, verdict } from "./verdict.js";

const TONES = { ok: "ok", warn: "wait", bad: "bad", info: "idle" };
const ICONS = { ok: "ok", warn: "warn", bad: "bad", info: "info" };

export function Verdict({ job, source, lastStepAt }) {
  const [, setRound] = useState(0);
  useEffect(() => {
    source.want(READS);
    const timer = setInterval(() => setRound((n) => n + 1), 5000);
    const stop = source.subscribe(READS, () => setRound((n) => n + 1));
    return () => {
      stop();
      clearInterval(timer);
    };
  }, [source]);
  const waiting = source.names.get() === null || (!source.isEmpty(READS) && source.get(READS[0]) === undefined);
  const checks = waiting ? [] : verdict(job, (name) => source.get(name), Date.now() / 1000, lastStepAt);
  const words = headline(checks);
  return html`<section class="card verdict" aria-label="Verdict" aria-live="polite" aria-busy=${String(waiting)}>
    ${waiting ? html`<p class="headline"><${Skeleton} height="22px" width="320px" /></p>` : checks.length > 1 && html`<p class="headline">${words}.</p>`}
    <ul>
      ${waiting
        ? [0, 1, 2, 3].map((i) => html`<li key=${i}><${Skeleton} height="42px" /></li>`)
        : checks.map(
            ({ topic, tone, says, because }) =>
              html`<li key=${topic} class=${`tone-${TONES[tone]}`}>
                <${Icon} name=${ICONS[tone]} />
                <div>
                  <b>${says}</b>
                  <span class="num">${because}</span>
                </div>
              </li>`,
          )}
    </ul>
  </section>`;
}
