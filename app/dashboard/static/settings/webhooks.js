// Webhooks: who is told when jobs end, tried out, and what became of each delivery.
import { get, post, remove } from "../core/api.js";
import { ago, dateTime, number, plural } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Empty, Field, Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { Secret } from "./secret.js";

const PATH = "/v1/webhook_endpoints";
const STATUS = { pending: ["wait", "Pending"], delivered: ["ok", "Delivered"], failed: ["bad", "Failed"] };
const EVERY_MS = 5000;
const nameOf = (event) => `${event.startsWith("eval.") ? "evaluation " : ""}${event.split(".").at(-1)}`;

export function Webhooks() {
  const asked = useLoad(async (signal) => {
    const [endpoints, types] = await Promise.all([get(PATH, { limit: 100 }, signal), get("/v1/webhook_event_types", {}, signal)]);
    return { endpoints: endpoints.data, types: types.data };
  }, []);
  const [fresh, setFresh] = useState(null);
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const { endpoints, types } = asked.data;
  const secret = (endpoint) => {
    setFresh(endpoint);
    asked.reload();
  };
  return html`<div class="stack">
    <${Add} types=${types} onDone=${secret} />
    ${endpoints.length
      ? endpoints.map((one) => html`<${Endpoint} key=${one.id} endpoint=${one} onSecret=${secret} onChange=${asked.reload} />`)
      : html`<section class="card"><${Empty} icon="webhook" title="No webhooks yet">Your URL is notified when a job succeeds, fails or is cancelled, with a signature, and retried until it answers.<//></section>`}
    ${fresh && html`<${Secret} title=${`The signing secret of ${fresh.name}`} secret=${fresh.signing_secret} onClose=${() => setFresh(null)}><p class="small soft">Use it to verify what the endpoint receives, such as with <code>client.webhooks.unwrap</code>.</p><//>`}
  </div>`;
}

function Add({ types, onDone }) {
  const [name, setName] = useState("");
  const [url, setUrl] = useState("");
  const [chosen, setChosen] = useState(types);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      onDone(await post(PATH, { name: name.trim(), url: url.trim(), event_types: chosen }));
      setName("");
      setUrl("");
    } catch (found) {
      setError(found);
    }
  };
  const toggle = (type, on) => setChosen(types.filter((one) => (one === type ? on : chosen.includes(one))));
  const wrong = (param) => error?.param === param && error.message;
  return html`<form class="card pad stack" aria-label="New webhook" onSubmit=${submit}>
    <div class="make">
      <${Field} id="hook-name" label="Name" error=${wrong("name")}><input id="hook-name" class="input" maxlength="256" required value=${name} onInput=${(event) => setName(event.target.value)} /><//>
      <${Field} id="hook-url" label="Address" hint="https, or http where the operator allows it" error=${wrong("url")}><input id="hook-url" class="input mono" required value=${url} onInput=${(event) => setUrl(event.target.value)} /><//>
      <button type="submit" class="btn primary" disabled=${!name.trim() || !url.trim() || !chosen.length}><${Icon} name="plus" />Add the webhook</button>
    </div>
    <div class="row wrap" role="group" aria-label="Events" style=${{ gap: "6px 18px" }}><span class="small muted">A job or an evaluation of the project</span>
      ${types.map((type) => html`<label key=${type} class="check"><input type="checkbox" checked=${chosen.includes(type)} onChange=${(event) => toggle(type, event.target.checked)} />${nameOf(type)}</label>`)}
    </div>
    ${error && !["name", "url"].includes(error.param) && html`<${Problem} error=${error} />`}
  </form>`;
}

function Endpoint({ endpoint, onSecret, onChange }) {
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);
  const path = `${PATH}/${endpoint.id}`;
  const test = async () => {
    setBusy(true);
    try {
      const { status_code: code } = await post(`${path}/test`, { event_type: endpoint.event_types[0] });
      setAnswer({ good: code < 300, text: `The endpoint answered a sample event with ${code}.` });
    } catch (error) {
      setAnswer({ good: false, text: error.message });
    }
    setBusy(false);
  };
  const act = async (what, done) => {
    try {
      done(await what());
    } catch (error) {
      say(error.message);
    }
  };
  const drop = () => act(() => remove(path), () => { say(`Deleted ${endpoint.name}`); onChange(); });
  return html`<section class="card" aria-label=${`Webhook ${endpoint.name}`}>
    <div class="card-head">
      <div class="hook"><h2>${endpoint.name}</h2><p class="small mono soft address">${endpoint.url}</p></div>
      <div class="row wrap">
        <button type="button" class="btn tight" disabled=${busy} onClick=${test}>${busy ? "Sending …" : "Send a sample"}</button>
        <${Confirm} kind="tight" confirm="Give a new secret" question="From now on events are signed with the new one; for a day also with the old one." onConfirm=${() => act(() => post(`${path}/rotate_secret`, { keep_old_secret_active_for_24_hours: true }), onSecret)}>New secret<//>
        <${Confirm} kind="danger tight" confirm="Delete the webhook" question="Nothing more is sent to it, not even pending deliveries." onConfirm=${drop}>Delete<//>
      </div>
    </div>
    <div class="row wrap small pad-in"><span class="muted">Notified when a job</span>${endpoint.event_types.map((type) => html`<span key=${type} class="tag">${nameOf(type)}</span>`)}<span class="muted tiny mono">${endpoint.signing_secret_hint}</span></div>
    ${answer && html`<div class="pad-in"><div class="note ${answer.good ? "tone-ok" : "tone-bad"}" role="status"><${Icon} name=${answer.good ? "ok" : "bad"} /><span class="grow">${answer.text}</span></div></div>`}
    <${Deliveries} path=${path} />
  </section>`;
}

function Deliveries({ path }) {
  const again = async (id) => {
    try {
      await post(`${path}/deliveries/${id}/redeliver`);
      say("Sent again");
      asked.reload();
    } catch (error) {
      say(error.message);
    }
  };
  const waits = (found) => (found?.data.some((one) => one.status === "pending") ? EVERY_MS : 0);
  const asked = useLoad((signal) => get(`${path}/deliveries`, { limit: 10 }, signal), [path], waits);
  if (asked.error) return html`<div class="pad-in"><${Problem} error=${asked.error} retry=${asked.reload} /></div>`;
  if (!asked.data) return html`<div class="pad-in"><${Skeleton} height="40px" /></div>`;
  const rows = asked.data.data;
  if (!rows.length) return html`<p class="small muted pad-in">Nothing has been sent yet.</p>`;
  return html`<div class="table-box"><table class="jobs">
    <thead><tr><th scope="col">Delivery</th><th scope="col">State</th><th scope="col">Tries</th><th scope="col" class="right">When</th><th scope="col"><span class="sr">Action</span></th></tr></thead>
    <tbody>${rows.map((one) => {
      const [tone, text] = STATUS[one.status];
      const last = one.attempts.at(-1);
      const said = last && (last.error ?? (last.status_code ? `answered ${last.status_code} in ${number(last.seconds, 2)} s` : ""));
      return html`<tr key=${one.id}>
        <td class="job-name">${nameOf(one.event_type)}<div class="muted tiny mono ellipsis">${one.event_id}</div></td>
        <td><span class="status tone-${tone}">${text}</span></td>
        <td class="small">${plural(one.attempts.length, "try", "tries")}${said && html`<div class="tiny muted">${said}</div>`}</td>
        <td class="right muted nowrap" title=${dateTime(one.created_at)}>${ago(one.created_at)}${one.next_attempt_at && html`<div class="tiny">next at ${dateTime(one.next_attempt_at)}</div>`}</td>
        <td class="right end"><button type="button" class="btn tight" onClick=${() => again(one.id)}>Send again</button></td>
      </tr>`;
    })}</tbody>
  </table></div>`;
}
