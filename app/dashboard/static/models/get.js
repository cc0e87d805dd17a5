// A base model from the model hub: what fits this machine, what another one takes, and how far it has come.
import { get, post } from "../core/api.js";
import { bytes, percent } from "../core/format.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { Bar, Confirm, Field, Problem, Skeleton } from "../ui/parts.js";

const EVERY_MS = 1000;
const FITS = { training: "Can be trained here", adapters: "Can be trained here with LoRA", asking: "Can be queried here", nothing: "Too large for this machine" };
const path = (name) => name.split("/").map(encodeURIComponent).join("/");

/** Models to get; `onDone` is told the name of one that has come. */
export function GetModel({ onDone }) {
  const offered = useLoad((signal) => get("/v1/models/available", {}, signal), []);
  const pulls = useLoad((signal) => get("/v1/models/pull", {}, signal), [], (found) => (found?.data.some((one) => one.status === "running") ? EVERY_MS : 0));
  const [name, setName] = useState("");
  const [other, setOther] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  // Those that were seen on their way: only of them it is news that they are here.
  const seen = useRef(new Set());
  useEffect(() => {
    for (const one of pulls.data?.data ?? []) {
      if (one.status === "running") seen.current.add(one.id);
      else if (seen.current.delete(one.id) && one.status === "succeeded") onDone(one.id);
    }
  }, [pulls.data]);
  const trying = async (what) => {
    setBusy(true);
    setError(null);
    try {
      await what();
    } catch (found) {
      setError(found);
    }
    setBusy(false);
  };
  // Not a form: it stands in one, which Enter would send.
  const look = (event) => {
    event.preventDefault();
    if (busy || !name.trim()) return;
    trying(async () => setOther(await get(`/v1/models/available/${path(name.trim())}`)));
  };
  const fetchIt = (id) =>
    trying(async () => {
      const pull = await post("/v1/models/pull", { name: id });
      seen.current.add(pull.id);
      setOther(null);
      pulls.reload();
    });

  const stop = (id) =>
    trying(async () => {
      await post(`/v1/models/pull/${path(id)}/cancel`);
      pulls.reload();
    });

  if (offered.error) return html`<${Problem} error=${offered.error} retry=${offered.reload} />`;
  if (offered.data === null) return html`<${Skeleton} height="160px" />`;
  const { machine, may_pull: may, data } = offered.data;
  const latest = Object.fromEntries((pulls.data?.data ?? []).map((one) => [one.id, one]));
  const rows = data.filter((one) => !one.there && one.id !== other?.id);
  const strangers = (pulls.data?.data ?? []).filter((one) => !["succeeded", "cancelled"].includes(one.status) && !data.some((known) => known.id === one.id) && one.id !== other?.id);
  return html`<section class="stack" aria-label="Get a model">
    <p class="small muted">This machine: ${machine.device}, ${bytes(machine.memory_bytes)} of memory, ${bytes(machine.free_disk_bytes)} of disk free. Memory needs are approximate; a job's estimate measures them.</p>
    ${!may && html`<div class="note">The key in use may not fetch models. The operator can: <code>policysplit models pull NAME</code>.</div>`}
    <div class="table-box"><table class="jobs">
      <thead><tr><th scope="col">Model</th><th scope="col" class="right">Size</th><th scope="col" class="right">Memory to train</th><th scope="col">Licence</th><th scope="col"></th></tr></thead>
      <tbody>
        ${[...(other ? [other] : []), ...rows].map((one) => html`<${Row} key=${one.id} model=${one} pull=${latest[one.id]} may=${may} busy=${busy} onGet=${() => fetchIt(one.id)} onStop=${() => stop(one.id)} />`)}
      </tbody>
    </table></div>
    ${strangers.map((one) => html`<div key=${one.id}><span class="mono small">${one.id}</span><${State} pull=${one} onGet=${may && (() => fetchIt(one.id))} onStop=${may && (() => stop(one.id))} /></div>`)}
    ${may &&
    html`<div class="row wrap" style=${{ alignItems: "flex-end" }}>
      <${Field} id="hub-name" label="Another one, by its name on the model hub">
        <input id="hub-name" class="input mono" placeholder="organisation/name" maxlength="200" value=${name} onInput=${(event) => setName(event.target.value)} onKeyDown=${(event) => event.key === "Enter" && look(event)} />
      <//>
      <button type="button" class="btn" disabled=${busy || !name.trim()} onClick=${look}>${busy ? "Asking …" : "Look it up"}</button>
    </div>`}
    ${error && html`<${Problem} error=${error} />`}
  </section>`;
}

function Row({ model, pull, may, busy, onGet, onStop }) {
  const running = pull?.status === "running";
  return html`<tr>
    <td class="job-name"><span class="mono">${model.id}</span><div class="muted tiny">${model.there ? "Is here already" : FITS[model.fits]}</div>${pull && pull.status !== "succeeded" && html`<${State} pull=${pull} onStop=${may && onStop} />`}</td>
    <td class="right num nowrap">${bytes(model.download_bytes)}</td>
    <td class="right num nowrap" title=${`With LoRA ${bytes(model.memory_to_train_adapters_bytes)}; to ask it ${bytes(model.memory_to_ask_bytes)}`}>${bytes(model.memory_to_train_bytes)}</td>
    <td class="nowrap">${model.license ?? "not named"}</td>
    <td class="right">${!running && !model.there && may && html`<button type="button" class="btn tight" disabled=${busy} aria-label=${`Get ${model.id}`} onClick=${onGet}>${pull?.status === "failed" ? "Continue" : "Get"}</button>`}</td>
  </tr>`;
}

function State({ pull, onGet, onStop }) {
  if (pull.status === "cancelled") return null;
  const failed = pull.status === "failed";
  const stop = onStop && html`<${Confirm} kind="tight" confirm=${failed ? "Discard the download" : "Cancel the download"} question=${`The partial download of ${pull.id} is removed.`} onConfirm=${onStop}>${failed ? "Discard" : "Cancel"}<//>`;
  if (failed) {
    return html`<div class="row wrap">
      <span class="small tone-bad" role="alert">${pull.error.message}</span>
      ${onGet && html`<button type="button" class="btn tight" onClick=${onGet}>Continue</button>`}${stop}
    </div>`;
  }
  return html`<div role="status">
    <div class="row" style=${{ justifyContent: "space-between", marginBottom: "6px" }}>
      <span class="small muted">${pull.total_bytes ? `${bytes(pull.done_bytes)} of ${bytes(pull.total_bytes)}, ${percent(pull.done_bytes / pull.total_bytes)}` : pull.stage}</span>${stop}
    </div>
    <${Bar} status="running" now=${pull.done_bytes ?? 0} of=${pull.total_bytes ?? 1} label=${`${pull.id}: how much of it is here`} />
  </div>`;
}
