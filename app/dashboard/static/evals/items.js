// A run's results by item, some at a time: all, or those that passed, failed or could not be graded.
import { evalPath, get } from "../core/api.js";
import { count } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { setQuery } from "../core/router.js";
import { Problem, Segments, Skeleton, Status } from "../ui/parts.js";

const PAGE = 50;
const KINDS = [["", "All"], ["fail", "Failed"], ["pass", "Passed"], ["error", "Not graded"]];

export function Items({ of, run, status }) {
  const [pages, setPages] = useState(1);
  const done = run.progress.items;
  const found = useLoad(
    async (signal) => {
      const rows = [];
      let more = true;
      for (let page = 0; page < pages && more; page++) {
        const part = await get(evalPath(of, run.id, "/output_items"), { status, limit: PAGE, after: rows.at(-1)?.id }, signal);
        rows.push(...part.data);
        more = part.has_more;
      }
      return { rows, more };
    },
    [run.id, status, pages, done],
  );
  return html`
    <div class="section-title">
      <h2>Items</h2>
      <${Segments} label="Which items" value=${status} options=${KINDS} onChange=${(value) => { setPages(1); setQuery({ status: value }); }} />
    </div>
    ${found.error && html`<${Problem} error=${found.error} retry=${found.reload} />`}
    ${!found.data && !found.error && html`<${Skeleton} height="160px" />`}
    ${found.data &&
    (found.data.rows.length
      ? html`<div class="stack">${found.data.rows.map((item) => html`<${Item} key=${item.id} item=${item} />`)}
          ${found.data.more && html`<button type="button" class="btn" onClick=${() => setPages(pages + 1)}>More items</button>`}</div>`
      : html`<p class="muted">${done ? "No such item." : "No item is done yet."}</p>`)}
  `;
}

function Item({ item }) {
  const { sample } = item;
  const answer = sample?.output[0];
  return html`<article class="card pad stack eval-item" aria-label=${`Item ${item.datasource_item_id + 1}`}>
    <div class="row wrap" style=${{ justifyContent: "space-between" }}>
      <span class="num small muted">Item ${count(item.datasource_item_id + 1)}</span>
      <span class="row wrap small" style=${{ gap: "14px" }}>
        ${item.results.map((one) => html`<span key=${one.name} class=${`status ${one.error !== null ? "tone-wait" : one.passed ? "tone-ok" : "tone-bad"}`} title=${one.error}>${one.name} <span class="num muted">${one.error === null ? one.score.toFixed(2) : "error"}</span></span>`)}
        <${Status} job=${item} pill />
      </span>
    </div>
    <dl class="eval-texts">
      ${fields(item.datasource_item).map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd>${text}</dd></div>`)}
      ${sample?.reasoning && html`<div><dt>Thoughts</dt><dd class="muted">${sample.reasoning}</dd></div>`}
      ${answer && html`<div class="said"><dt>Model's answer</dt><dd>${answer.content ?? JSON.stringify(answer.tool_calls)}</dd></div>`}
      ${sample?.error && html`<div><dt>No answer</dt><dd class="tone-bad">${sample.error.message}</dd></div>`}
      ${item.results.filter((one) => one.error !== null).map((one) => html`<div key=${one.name}><dt>${one.name}</dt><dd class="muted">${one.error}</dd></div>`)}
    </dl>
  </article>`;
}

const fields = (item) => Object.entries(item).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]);
