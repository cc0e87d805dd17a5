// What a project may use, and a dialog to change it.
import { post } from "../core/api.js";
import { bytes, count, number } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { Dialog, Field, Problem } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const GB = 1e9;
/** By the API's name: `[label, unit of the form in the API's, step, hint]`. */
const FIELDS = {
  jobs: ["Jobs at a time", 1, "1", "unfinished"],
  gpu_hours_per_month: ["GPU-hours a month", 1, "any", "then jobs are paused"],
  storage_bytes: ["Storage, GB", GB, "any", "files and runs"],
  requests_per_minute: ["Requests per minute", 1, "1", "of all its keys"],
};

/** The limits in a few words. */
export function limitsText(limits) {
  const parts = [
    limits.jobs !== null && `${count(limits.jobs)} jobs at a time`,
    limits.gpu_hours_per_month !== null && `${number(limits.gpu_hours_per_month)} GPU-hours a month`,
    limits.storage_bytes !== null && bytes(limits.storage_bytes),
    limits.requests_per_minute !== null && `${count(limits.requests_per_minute)} requests per minute`,
  ].filter(Boolean);
  return parts.length ? parts.join(" · ") : "as for all";
}

export function Limits({ project, onClose, onDone }) {
  const start = Object.fromEntries(Object.entries(FIELDS).map(([name, [, unit]]) => [name, project.limits[name] === null ? "" : String(project.limits[name] / unit)]));
  const [given, setGiven] = useState(start);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    const limits = Object.fromEntries(
      Object.entries(FIELDS).map(([name, [, unit]]) => [name, given[name] === "" ? null : unit === 1 ? Number(given[name]) : Math.round(Number(given[name]) * unit)]),
    );
    try {
      await post(`/v1/projects/${encodeURIComponent(project.id)}`, { limits });
      say(`Changed what ${project.name} may use`);
      onDone();
    } catch (found) {
      setError(found);
    }
  };
  return html`<${Dialog} title=${`What ${project.name} may use`} onClose=${onClose}>
    <form class="stack" onSubmit=${submit}>
      ${Object.entries(FIELDS).map(
        ([name, [label, , step, hint]]) => html`<${Field} key=${name} id=${`limit-${name}`} label=${label} hint=${hint} error=${error?.param === `limits.${name}` && error.message}>
          <input id=${`limit-${name}`} class="input num" type="number" min="0" step=${step} placeholder="no own limit" value=${given[name]} onInput=${(event) => setGiven({ ...given, [name]: event.target.value })} />
        <//>`,
      )}
      ${error && !error.param?.startsWith("limits.") && html`<${Problem} error=${error} />`}
      <div class="row" style=${{ justifyContent: "flex-end" }}>
        <button type="button" class="btn" onClick=${(event) => event.target.closest("dialog").close()}>Leave as it is</button>
        <button type="submit" class="btn primary">Change</button>
      </div>
    </form>
  <//>`;
}
