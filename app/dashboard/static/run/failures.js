// The answers that a failed run's grader failed on.
import { get, jobPath } from "../core/api.js";
import { count } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Mode } from "../ui/parts.js";

const MOST = 6;

/** Of a failed job: what could not be graded, in training or before it; nothing where its grader was not at fault. */
export function Failures({ job, about }) {
  const found = useLoad((signal) => (job.status === "failed" ? get(jobPath(job.id, "/rollouts"), { graded: false, limit: MOST }, signal) : null), [job.id, job.status]);
  const kept = (found.data?.data ?? []).map((row) => ({ ...row, query: { rollout: row.id }, where: `step ${count(row.step)}` }));
  const shown = kept.length || job.status !== "failed" ? kept : tried(about);
  if (!shown.length) return null;
  return html`
    <div class="section-title"><h2>Answers it failed on</h2><p>${kept.length ? "the first that were not graded" : "of those that were graded before training"}</p></div>
    <section class="card" aria-label="Answers it failed on">
      ${shown.map(
        (one, i) => html`<article key=${i} class="failure">
          <div class="grow">
            <p class="row tiny muted">${one.mode && html`<${Mode} mode=${one.mode} short />`}<span class="num">${one.where}</span><span class="ellipsis grow">${one.prompt}</span></p>
            <p class="answer">${one.response || html`<span class="muted">(empty)</span>`}</p>
          </div>
          <a class="btn tight" href=${link("graders", { job: job.id, ...one.query })}>Try the grader</a>
        </article>`,
      )}
    </section>
  `;
}

/** The examples of the preflight check, which stand in its event. */
function tried(about) {
  const { preflight } = about?.timeline.events.map((event) => event.data).findLast((data) => data?.preflight) ?? {};
  return (preflight?.examples ?? []).filter((one) => one.reward === null).map((one) => ({ ...one, query: { answer: one.response }, where: "before training" }));
}
