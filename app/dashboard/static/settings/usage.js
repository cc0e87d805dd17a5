// What was used by day, by whom, and what it costs.
import { save } from "../charts/export.js";
import { blob, get, post } from "../core/api.js";
import { bytes, count, number, short } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Empty, Field, Problem, Segments, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { Bars } from "./bars.js";
import { listed } from "./pages.js";

const DAY = 86400;
const GROUPS = [["project_id", "Project"], ["job_id", "Job"], ["model", "Model"]];
const PRICES = { gpu_hour: "GPU-hour", hour: "hour", million_trained_tokens: "million tokens trained", million_input_tokens: "million tokens read", million_output_tokens: "million tokens written", thousand_gradings: "thousand gradings", storage_gb_month: "GB of storage a month" };
/** What a day can be drawn by: `[name, title, value of a result, words]`. */
const hours = (value) => `${number(value)} h`;
const DRAWN = [
  ["gpu", "GPU-hours", (one) => one.gpu_seconds / 3600, hours],
  ["time", "Hours of attempts", (one) => one.seconds / 3600, hours],
  ["trained", "Tokens trained", (one) => one.trained_tokens, short],
  ["asked", "Tokens asked", (one) => one.input_tokens + one.output_tokens, short],
  ["gradings", "Gradings", (one) => one.gradings, short],
];
const SUMMED = ["seconds", "gpu_seconds", "trained_tokens", "gradings", "requests", "input_tokens", "output_tokens"];

export const money = (amount) => (amount === null ? "–" : `${number(amount.value, 4)} ${amount.currency.toUpperCase()}`);

/** Results of several days, added up by what they are of. */
export function added(buckets, name) {
  const sums = new Map();
  for (const one of buckets.flatMap((bucket) => bucket.results)) {
    const key = one[name] ?? "";
    const known = sums.get(key);
    if (!known) {
      sums.set(key, { ...one, amount: one.amount && { ...one.amount } });
      continue;
    }
    for (const field of SUMMED) known[field] += one[field];
    known.storage_bytes = Math.max(known.storage_bytes, one.storage_bytes);
    if (one.amount) known.amount = { ...one.amount, value: one.amount.value + (known.amount?.value ?? 0) };
  }
  return [...sums].map(([key, sum]) => ({ key, ...sum })).sort((a, b) => (b.amount?.value ?? b.seconds) - (a.amount?.value ?? a.seconds) || b.requests - a.requests);
}

export function Usage() {
  const [days, setDays] = useState(30);
  const [group, setGroup] = useState("project_id");
  const [drawn, setDrawn] = useState("gpu");
  const start = Math.floor(Date.now() / 1000 / DAY - days + 1) * DAY;
  const query = { start_time: start, group_by: group };
  const asked = useLoad((signal) => Promise.all([get("/v1/usage", { ...query, limit: days }, signal), get("/v1/prices", {}, signal), listed("/v1/projects", 1, signal)]), [days, group]);
  const saveTable = async () => {
    try {
      save(await blob("/v1/usage.csv", query), "usage.csv");
    } catch (error) {
      say(error.message);
    }
  };
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const [usage, prices, projects] = asked.data;
  const names = Object.fromEntries(projects.rows.map((one) => [one.id, one.name]));
  const [, title, value, shown] = DRAWN.find(([name]) => name === drawn);
  const perDay = usage.data.map((one) => ({ start_time: one.start_time, value: one.results.reduce((sum, result) => sum + value(result), 0) }));
  return html`<div class="stack">
    <div class="row wrap" style=${{ justifyContent: "space-between" }}>
      <div class="row wrap">
        <${Segments} label="Days" value=${days} options=${[[7, "7 days"], [30, "30 days"], [90, "90 days"]]} onChange=${setDays} />
        <${Segments} label="Drawn" value=${drawn} options=${DRAWN.map(([name, text]) => [name, text])} onChange=${setDrawn} />
      </div>
      <button type="button" class="btn" onClick=${saveTable}><${Icon} name="download" />CSV</button>
    </div>
    <${Bars} title=${title} days=${perDay} shown=${shown} />
    <section class="card" aria-label="By what">
      <div class="card-head"><h2>By ${GROUPS.find(([name]) => name === group)[1].toLowerCase()}</h2><${Segments} label="By what" value=${group} options=${GROUPS} onChange=${setGroup} /></div>
      <${Sums} rows=${added(usage.data, group)} group=${group} names=${names} priced=${prices.currency !== null} />
    </section>
    <${Prices} list=${prices} onDone=${asked.reload} />
  </div>`;
}

function Sums({ rows, group, names, priced }) {
  if (!rows.length) return html`<${Empty} title="No usage">Running jobs are counted every minute, requests within seconds.<//>`;
  const named = (key) => (key === "" ? html`<span class="muted">no ${GROUPS.find(([name]) => name === group)[1].toLowerCase()}</span>` : group === "job_id" ? html`<a class="mono" href=${link("jobs", key)}>${key}</a>` : names[key] ? html`<span title=${key}>${names[key]}</span>` : html`<span class="mono">${key}</span>`);
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Sums"><table>
    <thead><tr><th>What</th><th class="right">GPU-hours</th><th class="right">Hours</th><th class="right">Tokens trained</th><th class="right">Read / written</th><th class="right">Gradings</th><th class="right">Storage</th>${priced && html`<th class="right">Cost</th>`}</tr></thead>
    <tbody>${rows.map((one) => html`<tr key=${one.key}>
      <td>${named(one.key)}</td>
      <td class="right num">${number(one.gpu_seconds / 3600)}</td>
      <td class="right num">${number(one.seconds / 3600)}</td>
      <td class="right num">${short(one.trained_tokens)}</td>
      <td class="right num">${short(one.input_tokens)} / ${short(one.output_tokens)}</td>
      <td class="right num">${count(one.gradings)}</td>
      <td class="right num">${one.storage_bytes ? bytes(one.storage_bytes) : "–"}</td>
      ${priced && html`<td class="right num nowrap">${money(one.amount)}</td>`}
    </tr>`)}</tbody>
  </table></div>`;
}

function Prices({ list, onDone }) {
  const [given, setGiven] = useState(null);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      const prices = Object.fromEntries(Object.keys(PRICES).map((name) => [name, Number(given[name] || 0)]));
      await post("/v1/prices", { currency: given.currency.trim().toUpperCase(), ...prices });
      say("The prices are set");
      setGiven(null);
      onDone();
    } catch (found) {
      setError(found);
    }
  };
  const set = Object.entries(PRICES).filter(([name]) => list.prices?.[name]);
  return html`<section class="card pad stack" aria-label="Prices">
    <div class="row wrap" style=${{ justifyContent: "space-between" }}><h2>Prices</h2>${given === null && html`<button type="button" class="btn tight" onClick=${() => setGiven({ currency: list.currency ?? "EUR", ...list.prices })}>Set prices</button>`}</div>
    ${given === null && html`<p class="small soft">${list.currency === null ? "No prices are set: usage has no costs." : `${list.since === "1970-01-01" ? "From the beginning" : `From ${list.since} on`}: ${set.map(([name, text]) => `${number(list.prices[name])} ${list.currency} ${text === "hour" ? "an" : "a"} ${text}`).join(", ") || "nothing costs anything"}.`}</p>`}
    ${given !== null &&
    html`<form class="stack" onSubmit=${submit}>
      <div class="make prices">
        <${Field} id="price-currency" label="Currency" error=${error?.param === "currency" && error.message}><input id="price-currency" class="input" maxlength="3" required value=${given.currency} onInput=${(event) => setGiven({ ...given, currency: event.target.value })} /><//>
        ${Object.entries(PRICES).map(([name, text]) => html`<${Field} key=${name} id=${`price-${name}`} label=${`${text === "hour" ? "An" : "A"} ${text}`} error=${error?.param === name && error.message}><input id=${`price-${name}`} class="input num" type="number" min="0" step="any" placeholder="0" value=${given[name] || ""} onInput=${(event) => setGiven({ ...given, [name]: event.target.value })} /><//>`)}
      </div>
      ${error && error.param !== "currency" && !(error.param in PRICES) && html`<${Problem} error=${error} />`}
      <div class="row" style=${{ justifyContent: "flex-end" }}>
        <button type="button" class="btn" onClick=${() => setGiven(null)}>Leave as they are</button>
        <button type="submit" class="btn primary">Set from today on</button>
      </div>
    </form>`}
  </section>`;
}
