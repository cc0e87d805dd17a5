// What works and what waits: the queue, and the workers, which the operator drains.
import { get, post } from "../core/api.js";
import { ago, bytes, count, dateTime, plural } from "../core/format.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Bar, Empty, Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { access } from "./access.js";

const MOST = 100;

const EVERY_MS = 3000;
const TONES = { online: "ok", draining: "wait", lost: "bad" };
const STUCK = ["worker", "undrain", "cluster"];

export function Workers() {
  const asked = useLoad(async (signal) => {
    const [workers, queue] = await Promise.all([get("/v1/workers", { limit: MOST }, signal), get("/v1/queue", {}, signal)]);
    return { workers: workers.data, more: workers.has_more, queue };
  }, [], EVERY_MS);
  const who = useLoad(access, []);
  if (asked.error && !asked.data) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const { workers, more, queue } = asked.data;
  const drain = async (worker, verb) => {
    try {
      await post(`/v1/workers/${encodeURIComponent(worker.id)}/${verb}`);
      asked.reload();
    } catch (error) {
      say(error.message);
    }
  };
  return html`<div class="stack">
    <${Queue} queue=${queue} />
    <section class="card" aria-label="Workers">
      <div class="card-head"><h2>Workers</h2><span class="small muted">Those that run jobs, and those that serve models.</span></div>
      ${workers.length ? html`<${Table} workers=${workers} operator=${who.data?.operator} onDrain=${drain} />` : html`<${Empty} title="No worker is connected">Start one for each set of GPUs: <code>policysplit worker</code>. <code>policysplit serve</code> starts one by itself.<//>`}
      ${more && html`<p class="more muted small">The newest ${count(MOST)} are shown.</p>`}
    </section>
  </div>`;
}

function Queue({ queue }) {
  const taken = queue.slots - queue.free_slots;
  const facts = [
    ["Waiting", count(queue.waiting)],
    ["Running", count(queue.running)],
    ["Slots taken", `${count(taken)} of ${count(queue.slots)}`],
  ];
  return html`<section class="card pad stack" aria-label="Queue">
    <div class="row wrap" style=${{ alignItems: "baseline", justifyContent: "space-between" }}><h2>Queue</h2><span class=${`small ${STUCK.includes(queue.waits_for) ? "status tone-bad" : "muted"}`}>${queue.message}</span></div>
    <dl class="shares">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
    ${queue.slots > 0 && html`<${Bar} now=${taken} of=${queue.slots} label=${`${count(taken)} of ${plural(queue.slots, "slot")} taken`} />`}
    ${queue.next.length > 0 &&
    html`<ol class="largest" aria-label="Next">${queue.next.map(
      (job) => html`<li key=${job.id}><a class="ellipsis" href=${link("jobs", job.id)}>${job.name}</a>${job.gpus > 1 && html`<span class="small muted nowrap">${plural(job.gpus, "GPU")}</span>`}<span class="small muted nowrap">no. ${count(job.queue_position)}</span><span class="small muted nowrap" title=${dateTime(job.created_at)}>${ago(job.created_at)}</span></li>`,
    )}</ol>`}
    ${queue.projects.length > 1 &&
    html`<p class="small muted">${queue.projects.map((one) => `${one.project_id}: ${count(one.waiting)} waiting, ${count(one.running)} running`).join(" · ")}</p>`}
  </section>`;
}

function Table({ workers, operator, onDrain }) {
  return html`<div class="table-box"><table class="jobs">
    <thead><tr><th scope="col">Worker</th><th scope="col">Status</th><th scope="col">GPUs</th><th scope="col">What it does</th><th scope="col" class="right job-created">Last seen</th><th scope="col"><span class="sr">Action</span></th></tr></thead>
    <tbody>${workers.map((worker) => html`<${Row} key=${worker.id} worker=${worker} operator=${operator} onDrain=${onDrain} />`)}</tbody>
  </table></div>`;
}

function Row({ worker, operator, onDrain }) {
  const trains = worker.type === "training";
  return html`<tr>
    <td class="job-name"><b>${worker.host ?? worker.id}</b><span class="muted tiny mono ellipsis">${worker.id}${worker.version && ` · ${worker.version}`}</span></td>
    <td class="nowrap"><span class=${`status tone-${TONES[worker.status]}`}>${worker.status}</span></td>
    <td>${worker.gpus.length ? plural(worker.gpus.length, "GPU") : html`<span class="muted">CPU</span>`}${worker.ray && html`<${Ray} cluster=${worker.ray} />`}${worker.memory && html`<div class="muted tiny">${worker.memory.gpu_bytes.length ? `up to ${bytes(Math.max(...worker.memory.gpu_bytes))} each` : bytes(worker.memory.host_bytes)}</div>`}</td>
    <td>
      <${Work} worker=${worker} />
      ${worker.cache && html`<div class="muted tiny">cache ${bytes(worker.cache.bytes)}${worker.cache.limit_bytes && ` of ${bytes(worker.cache.limit_bytes)}`}</div>`}
    </td>
    <td class="right muted nowrap job-created" title=${dateTime(worker.heartbeat_at)}>${ago(worker.heartbeat_at)}</td>
    <td class="right end">
      ${operator && trains && worker.status === "online" && html`<button type="button" class="btn" title="It takes no more jobs; running ones continue" onClick=${() => onDrain(worker, "drain")}>Drain</button>`}
      ${operator && worker.status === "draining" && html`<button type="button" class="btn" onClick=${() => onDrain(worker, "undrain")}>Take jobs again</button>`}
    </td>
  </tr>`;
}

/** The cluster that a worker starts jobs on: what its hosts have, or why it cannot be asked. */
function Ray({ cluster: { address, device, hosts, problem } }) {
  if (problem) return html`<div class="tiny" title=${problem}><span class="status tone-bad">no Ray cluster</span></div>`;
  return html`<div class="tiny muted" title=${`Ray cluster at ${address}`}>Ray: ${hosts.length ? hosts.join(" + ") : "no"} ${device.toUpperCase()}s</div>`;
}

/** What a worker is at; another one takes over from one that is lost. */
function Work({ worker: { type, status, running, slots, slots_taken: taken, jobs, engine, models, models_loaded: loaded } }) {
  if (status === "lost") return html`<span class="muted">${running > 0 && type === "training" ? `another one takes over ${plural(running, "job")}` : "–"}</span>`;
  if (type === "inference") return html`serves <span title=${models.join("\n")}>${plural(loaded, "model")}</span> <span class="muted tiny">${engine} · ${plural(running, "request")}</span>`;
  const others = running - jobs.length;
  return html`${count(taken)} of ${plural(slots, "slot")}${jobs.map((id) => html` <a key=${id} class="mono tiny" href=${link("jobs", id)}>${id}</a>`)}${others > 0 && html` <span class="muted tiny">${plural(others, "job")} of other projects</span>`}`;
}

/** Why a queued job waits, where somebody has to do something about it. */
export function Stuck() {
  const asked = useLoad((signal) => get("/v1/queue", {}, signal), [], EVERY_MS);
  if (!STUCK.includes(asked.data?.waits_for)) return null;
  return html`<div class="note tone-bad" role="status" style=${{ marginBottom: "16px" }}><${Icon} name="warn" /><span class="grow">${asked.data.message} <a href=${link("settings", "workers")}>See the workers</a></span></div>`;
}
