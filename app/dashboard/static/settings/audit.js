// Who changed what.
import { ago, dateTime } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad, useSettled } from "../core/poll.js";
import { Empty, Field, Problem, Skeleton } from "../ui/parts.js";
import { More, listed } from "./pages.js";

function said(value) {
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : value;
}

/** What is told of a change beside what it is of: names and values, as the API has them. */
function details(entry) {
  return Object.entries(entry.details)
    .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && !value.length))
    .map(([name, value]) => `${name.replaceAll("_", " ")}: ${said(value)}`)
    .join(" · ");
}

export function Audit() {
  const [resource, setResource] = useState("");
  const [actor, setActor] = useState("");
  const [pages, setPages] = useState(1);
  const query = { resource_ids: useSettled(resource.trim(), 300), actor_ids: useSettled(actor.trim(), 300) };
  const asked = useLoad((signal) => listed("/v1/audit_log", pages, signal, query), [pages, query.resource_ids, query.actor_ids]);
  return html`<div class="stack">
    <div class="card pad make" role="search">
      <${Field} id="audit-resource" label="Of what"><input id="audit-resource" class="input mono" placeholder="any id" value=${resource} onInput=${(event) => setResource(event.target.value)} /><//>
      <${Field} id="audit-actor" label="By whom"><input id="audit-actor" class="input mono" placeholder="any key_… or address" value=${actor} onInput=${(event) => setActor(event.target.value)} /><//>
    </div>
    ${asked.error
      ? html`<${Problem} error=${asked.error} retry=${asked.reload} />`
      : !asked.data
        ? html`<${Skeleton} height="240px" />`
        : html`<section class="card" aria-label="Changes">
            ${asked.data.rows.length ? html`<${Table} rows=${asked.data.rows} />` : html`<${Empty} title="No changes">Everything that is created, changed or deleted is recorded here.<//>`}
            <${More} more=${asked.data.more} loading=${asked.loading} onMore=${() => setPages(pages + 1)} />
          </section>`}
  </div>`;
}

function Table({ rows }) {
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Entries"><table class="jobs">
    <thead><tr><th scope="col">Change</th><th scope="col">By</th><th scope="col" class="right">When</th></tr></thead>
    <tbody>${rows.map((one) => html`<tr key=${one.id}>
      <td class="job-name whole"><b>${one.type.replaceAll(/[._]/g, " ")}</b>
        <div class="tiny mono muted ellipsis">${one.resource_id}</div>
        <div class="tiny soft">${details(one)}</div></td>
      <td class="small whole" data-label="by"><span class="mono">${one.actor.email ?? one.actor.api_key?.id ?? "the operator"}</span>
        <div class="tiny muted">${[one.actor.ip_address, one.project.name].filter(Boolean).join(" · ")}</div></td>
      <td class="right muted nowrap end" title=${`${dateTime(one.effective_at)}${one.request_id ? ` · ${one.request_id}` : ""}`}>${ago(one.effective_at)}</td>
    </tr>`)}</tbody>
  </table></div>`;
}
