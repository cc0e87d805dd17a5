// What is in a training file: facts, fields, and the first rows.
import { count, percent, plural } from "../core/format.js";
import { html } from "../core/html.js";
import { Icon } from "../ui/icons.js";
import { spread, messagesOf, textOf } from "./check.js";

/** `found` from `check`; `part`: only the beginning of the file was read. */
export function Rows({ found, part }) {
  const lengths = spread(found.lengths);
  const facts = [
    ["Rows", count(found.rows)],
    ["Prompt, median", lengths && plural(lengths.median, "character")],
    ["Prompt, longest", lengths && plural(lengths.largest, "character")],
    ["Repeated prompts", count(found.duplicates.length)],
  ];
  return html`
    <section class="card run-facts" aria-label="Facts"><dl>${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value ?? "–"}</dd></div>`)}</dl></section>
    ${part && html`<p class="small muted">Based on the first rows, as the file is too long to read in full.</p>`}
    <${Errors} found=${found} />
    ${found.duplicates.length > 0 &&
    html`<div class="note tone-wait"><${Icon} name="warn" /><span>${plural(found.duplicates.length, "row")} repeat an earlier prompt: line ${count(found.duplicates[0].line)} is as line ${count(found.duplicates[0].of)}.</span></div>`}
    <section class="card" aria-label="Fields">
      <div class="table-box"><table>
        <thead><tr><th>Field</th><th class="right">Rows that have it</th><th class="right">Share</th></tr></thead>
        <tbody>${[...found.fields].map(([name, n]) => html`<tr key=${name}><td class="mono">${name === "messages" ? name : `item.${name}`}</td><td class="right num">${count(n)}</td><td class="right num">${percent(n / found.rows)}</td></tr>`)}</tbody>
      </table></div>
    </section>
    <section class="card" aria-label="First rows">
      <div class="table-box" tabindex="0" role="region" aria-label="First rows"><table>
        <thead><tr><th class="right">Line</th><th>Last message</th><th>Other fields</th></tr></thead>
        <tbody>${found.first.map(({ line, row }) => html`<tr key=${line}><td class="right num">${count(line)}</td><td class="config-value">${textOf(messagesOf(row).at(-1).content).slice(0, 300)}</td><td class="mono config-value">${others(row)}</td></tr>`)}</tbody>
      </table></div>
    </section>
  `;
}

export function Errors({ found }) {
  if (!found.errors.length) return null;
  return html`<div class="note tone-bad" role="alert">
    <${Icon} name="bad" />
    <ul>${found.errors.map(({ line, message }) => html`<li key=${line}><b>Line ${count(line)}</b> ${message}</li>`)}${found.more > 0 && html`<li>and ${plural(found.more, "further line")}</li>`}</ul>
  </div>`;
}

function others({ messages: _, ...rest }) {
  return JSON.stringify(rest).slice(0, 300);
}
