// Keys: made, copied once, revoked; who used which when.
import { post } from "../core/api.js";
import { ago, count, dateTime, plural } from "../core/format.js";
import { cls, html, useState } from "../core/html.js";
import { keepKey } from "../core/keys.js";
import { useLoad } from "../core/poll.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Empty, Field, Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { access } from "./access.js";
import { More } from "./pages.js";
import { Secret } from "./secret.js";

/** What a key may do, with what that opens. */
const SCOPES = { read: "see everything", train: "files, jobs, experiments", infer: "ask models", admin: "keys, webhooks, sharing, the audit log" };

export function Keys({ query }) {
  const [pages, setPages] = useState(1);
  const asked = useLoad((signal) => access(signal, { keys: pages }), [pages]);
  const [fresh, setFresh] = useState(null);
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const { keys, more, projects, keyless, operator } = asked.data;
  const done = (key) => {
    setFresh({ ...key, first: keyless });
    if (keyless) keepKey(key.secret);
    asked.reload();
  };
  const revoke = async (key) => {
    try {
      await post(`/v1/api_keys/${key.id}/revoke`);
      say(`Revoked ${key.name}`);
      asked.reload();
    } catch (error) {
      say(error.message);
    }
  };
  const live = keys.filter((one) => one.revoked_at === null);
  const gone = keys.filter((one) => one.revoked_at !== null);
  const names = Object.fromEntries(keys.map((one) => [one.id, one.name]));
  const shared = { names, many: projects.length > 1, operator, onRevoke: revoke };
  return html`<div class="stack">
    ${keyless && html`<div class="note"><${Icon} name="info" /><span class="grow">This service has no keys: it answers anyone on this machine, and nobody else. The first key ends that: then every request needs one.</span></div>`}
    <${Make} key=${operator} operator=${operator} first=${keyless} projects=${projects} chosen=${query.get("project")} onDone=${done} />
    <section class="card" aria-label="Keys">
      ${live.length ? html`<${Table} keys=${live} ...${shared} />` : html`<${Empty} icon="key" title="No keys">Programs, colleagues and pages on other machines each need one.<//>`}
      <${More} more=${more.keys} loading=${asked.loading} onMore=${() => setPages(pages + 1)} />
    </section>
    ${gone.length > 0 && html`<details class="card gone"><summary>${plural(gone.length, "revoked key")}</summary><${Table} keys=${gone} ...${shared} /></details>`}
    ${fresh && html`<${Secret} title=${`The key ${fresh.name}`} secret=${fresh.secret} onClose=${() => setFresh(null)}>
      ${fresh.first && html`<div class="note"><${Icon} name="info" /><span class="grow">From now on every request needs a key. This tab continues with this one.</span></div>`}
    <//>`}
  </div>`;
}

function Make({ operator, first, projects, chosen, onDone }) {
  const [name, setName] = useState("");
  const [project, setProject] = useState(projects.some((one) => one.id === chosen) ? chosen : projects[0]?.id);
  const [limit, setLimit] = useState("");
  const [admin, setAdmin] = useState(first);
  const [scopes, setScopes] = useState(Object.keys(SCOPES));
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const body = { name: name.trim() };
      if (projects.length > 1) body.project_id = project;
      if (limit) body.requests_per_minute = Number(limit);
      if (scopes.length < Object.keys(SCOPES).length) body.scopes = scopes;
      if (operator && admin) body.operator = true;
      onDone(await post("/v1/api_keys", body));
      setName("");
    } catch (found) {
      setError(found);
    }
    setBusy(false);
  };
  const wrong = (param) => error?.param === param && error.message;
  return html`<form class="card pad stack" aria-label="New key" onSubmit=${submit}>
    <div class="make">
      <${Field} id="key-name" label="What is the key for?" error=${wrong("name")}>
        <input id="key-name" class="input" placeholder="nightly evaluation" maxlength="256" required value=${name} onInput=${(event) => setName(event.target.value)} />
      <//>
      ${projects.length > 1 &&
      html`<${Field} id="key-project" label="Project" error=${wrong("project_id")}>
        <select id="key-project" class="input" value=${project} onChange=${(event) => setProject(event.target.value)}>
          ${projects.map((one) => html`<option key=${one.id} value=${one.id}>${one.name}</option>`)}
        </select>
      <//>`}
      <${Field} id="key-limit" label="Requests per minute" error=${wrong("requests_per_minute")}>
        <input id="key-limit" class="input num" type="number" min="1" placeholder="as for all" value=${limit} onInput=${(event) => setLimit(event.target.value)} />
      <//>
      <button type="submit" class="btn primary" disabled=${busy || !name.trim() || !scopes.length}><${Icon} name="plus" />Make the key</button>
    </div>
    <div class="row wrap" role="group" aria-label="What it may do" style=${{ gap: "6px 18px" }}>
      <span class="small muted">It may</span>
      ${Object.entries(SCOPES).map(([scope, what]) => html`<label key=${scope} class="check"><input type="checkbox" checked=${scopes.includes(scope)} onChange=${(event) => setScopes(Object.keys(SCOPES).filter((one) => (one === scope ? event.target.checked : scopes.includes(one))))} /><span><code>${scope}</code> <span class="muted">${what}</span></span></label>`)}
    </div>
    ${operator &&
    html`<label class="check"><input type="checkbox" checked=${admin} onChange=${(event) => setAdmin(event.target.checked)} />An operator's key: it may create projects and manage all keys</label>`}
    ${error && !["name", "project_id", "requests_per_minute"].includes(error.param) && html`<${Problem} error=${error} />`}
  </form>`;
}

function Table({ keys, names, many, operator, onRevoke }) {
  return html`<div class="table-box"><table class="jobs">
    <thead><tr><th scope="col">Key</th>${many && html`<th scope="col">Project</th>`}<th scope="col">Last used</th><th scope="col">Made</th><th scope="col"></th></tr></thead>
    <tbody>${keys.map((key) => html`<${Row} key=${key.id} shown=${key} maker=${names[key.created_by] ?? key.created_by} many=${many} operator=${operator} onRevoke=${onRevoke} />`)}</tbody>
  </table></div>`;
}

function Row({ shown: key, maker, many, operator, onRevoke }) {
  const over = key.revoked_at !== null;
  return html`<tr class=${cls(over && "muted")}>
    <td class="job-name">
      <b>${key.name}</b>
      <div class="row wrap tags"><span class="muted tiny mono">${key.hint}</span>
        ${key.operator && html`<span class="tag">operator</span>`}${key.scopes.length < Object.keys(SCOPES).length && key.scopes.map((scope) => html`<span key=${scope} class="tag">${scope}</span>`)}${key.requests_per_minute !== null && html`<span class="tag">${count(key.requests_per_minute)} a minute</span>`}${key.current && html`<span class="tag">in use here</span>`}
      </div>
    </td>
    ${many && html`<td>${key.project_name}</td>`}
    <td class="nowrap" data-label="used" title=${key.last_used_at && dateTime(key.last_used_at)}>${key.last_used_at ? ago(key.last_used_at) : html`<span class="muted">never</span>`}</td>
    <td class="nowrap muted" data-label="made" title=${dateTime(key.created_at)}>${ago(key.created_at)}${maker && html`<div class="tiny">by ${maker}</div>`}</td>
    <td class="right end">${over
      ? html`<span class="tiny muted nowrap" title=${dateTime(key.revoked_at)}>revoked ${ago(key.revoked_at)}</span>`
      : (operator || !key.operator) && html`<${Confirm} confirm="Revoke the key" question=${`Within seconds, requests with ${key.name} are refused for good.${key.current ? " It is the key that this tab uses." : ""}`} onConfirm=${() => onRevoke(key)}>Revoke<//>`}</td>
  </tr>`;
}
