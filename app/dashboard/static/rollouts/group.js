// All responses to one prompt, the modes side by side.
import { get, jobPath } from "../core/api.js";
import { count, number } from "../core/format.js";
import { cls, html, useEffect, useMemo, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { Mode, Problem, Skeleton } from "../ui/parts.js";
import { diff } from "./diff.js";
import { Tokens } from "./heat.js";
import { Hits } from "./hits.js";

const SIDES = ["normal", "high-entropy"];

export function Group({ jobId, rows, tint, diffing, search }) {
  const details = useDetails(jobId, rows, tint !== "none");
  const first = rows[0];
  const sides = SIDES.map((mode) => [mode, rows.filter((row) => row.mode === mode)]).filter(([, own]) => own.length);
  return html`<div class="stack">
    <section class="card pad" aria-label="Prompt">
      <div class="row wrap" style=${{ justifyContent: "space-between" }}>
        <h2>Prompt <span class="muted small num">step ${count(first.step)} · group ${first.group} · item ${count(first.item)}</span></h2>
        <a class="btn tight" href=${link("jobs", jobId, "rollouts", { item: first.item })}>Over training</a>
      </div>
      <${Prompt} rows=${rows} search=${search} />
    </section>
    ${details.error && html`<${Problem} error=${details.error} />`}
    ${diffing && sides.length === 2 && html`<${Diff} sides=${sides} />`}
    <div class=${cls("sides", sides.length === 1 && "one")}>
      ${sides.map(
        ([mode, own]) => html`<section key=${mode} class="side-list" aria-label=${`${mode} mode`}>
          <div class="row" style=${{ justifyContent: "space-between" }}>
            <${Mode} mode=${mode} />
            <span class="small muted num">mean reward ${number(mean(own))}</span>
          </div>
          ${own.map((row) => html`<${Response} key=${row.id} jobId=${jobId} row=${row} tint=${tint} detail=${details.of(row.id)} search=${search} />`)}
        </section>`,
      )}
    </div>
  </div>`;
}

/** Each mode has its own prompt: the high-entropy one has its instruction in front. */
function Prompt({ rows, search }) {
  const prompts = [...new Map(rows.map((row) => [row.mode, row.prompt])).entries()];
  const [shown, setShown] = useState(null);
  const [mode, text] = prompts.find(([one]) => one === shown) ?? prompts[0];
  return html`
    ${prompts.length > 1 &&
    html`<div class="segments" role="group" aria-label="Prompt of" style=${{ margin: "8px 0" }}>
      ${prompts.map(([one]) => html`<button type="button" key=${one} aria-pressed=${String(one === mode)} onClick=${() => setShown(one)}>as ${one} mode sees it</button>`)}
    </div>`}
    <p class="answer prompt"><${Hits} text=${text} search=${search} /></p>
  `;
}

/** One response, with its tokens and scores where `detail` has them. */
export function Response({ jobId, row, tint, detail, search }) {
  const scores = Object.entries(detail?.scores ?? {});
  return html`<article class="card response" id=${row.id}>
    <div class="row wrap response-head">
      <${Mode} mode=${row.mode} short />
      <b class="num reward">${row.reward === null ? "not graded" : number(row.reward)}</b>
      <span class="bar" aria-hidden="true"><i style=${{ width: `${100 * Math.min(1, Math.max(0, row.reward ?? 0))}%` }} /></span>
      ${row.truncated && html`<span class="tag">cut at the limit</span>`} ${detail?.dropped && html`<span class="tag">not trained on</span>`}
      ${detail?.parse_error && html`<span class="tag" title=${detail.parse_error}>not of the format</span>`}
    </div>
    ${tint !== "none" && !detail
      ? html`<${Skeleton} height="64px" />`
      : detail && tint !== "none"
        ? html`<${Tokens} tokens=${detail.token_details} tint=${tint} />`
        : html`<p class="answer">${row.response ? html`<${Hits} text=${row.response} search=${search} />` : html`<span class="muted">(empty)</span>`}</p>`}
    <div class="row wrap response-foot tiny">
      <span class="muted num">${facts(row)}</span>
      ${scores.map(([name, value]) => html`<span key=${name} class="tag num">${name} ${number(value)}</span>`)}
      <span class="grow" />
      <a class="muted" href=${link("graders", { job: jobId, rollout: row.id })}>Try the grader</a>
    </div>
  </article>`;
}

function facts({ tokens, surprisal, entropy }) {
  const means = [["surprise", surprisal], ["entropy", entropy]].filter(([, value]) => value !== null);
  return [`${count(tokens)} tokens`, ...means.map(([name, value]) => `${name} ${number(value, 2)}`)].join(" · ");
}

function Diff({ sides }) {
  const [picked, setPicked] = useState({});
  const best = (rows) => [...rows].sort((a, b) => (b.reward ?? -1) - (a.reward ?? -1))[0];
  const [a, b] = sides.map(([mode, rows]) => rows.find((row) => row.id === picked[mode]) ?? best(rows));
  const parts = useMemo(() => diff(a.response, b.response), [a.id, b.id]);
  return html`<section class="card pad" aria-label="Difference between the modes">
    <div class="row wrap">
      <h3 class="grow">Difference</h3>
      ${sides.map(
        ([mode, rows]) => html`<label key=${mode} class="row small">
          <${Mode} mode=${mode} short />
          <span class="sr">Response of ${mode} mode</span>
          <select class="input" style=${{ width: "auto" }} value=${(mode === "normal" ? a : b).id} onChange=${(event) => setPicked({ ...picked, [mode]: event.target.value })}>
            ${rows.map((row) => html`<option key=${row.id} value=${row.id}>response ${row.index}, reward ${number(row.reward)}</option>`)}
          </select>
        </label>`,
      )}
    </div>
    <p class="answer diff">
      ${parts.map((part, i) =>
        part.in === "a" ? html`<del key=${i}>${part.text}</del>` : part.in === "b" ? html`<ins key=${i}>${part.text}</ins>` : html`<span key=${i}>${part.text}</span>`,
      )}
    </p>
    <p class="tiny muted">Struck through: only in normal mode. Underlined: only in high-entropy mode.</p>
  </section>`;
}

function mean(rows) {
  const graded = rows.filter((row) => row.reward !== null);
  return graded.length ? graded.reduce((sum, row) => sum + row.reward, 0) / graded.length : null;
}

/** Tokens and sub-scores of the responses shown; tokens are many, so only where they are wanted. */
function useDetails(jobId, rows, wanted) {
  const [found, setFound] = useState(new Map());
  const [error, setError] = useState(null);
  const key = rows.map((row) => row.id).join();
  useEffect(() => {
    if (!wanted) return undefined;
    const aborter = new AbortController();
    const missing = rows.filter((row) => !found.has(row.id));
    Promise.all(missing.map((row) => get(jobPath(jobId, `/rollouts/${row.id}`), {}, aborter.signal)))
      .then((all) => all.length && setFound((old) => new Map([...old, ...all.map((one) => [one.id, one])])))
      .catch((problem) => problem.name !== "AbortError" && setError(problem));
    return () => aborter.abort();
  }, [key, wanted]);
  return { error, of: (id) => found.get(id) };
}
