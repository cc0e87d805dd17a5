// Where a job's items come from: an uploaded file, or a procedural task.
import { get, upload } from "../core/api.js";
import { count } from "../core/format.js";
import { html, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { Icon } from "../ui/icons.js";
import { Segments } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { JsonInput, NumberInput, Select, TextInput } from "./inputs.js";

const ENVIRONMENT = { type: "environment", task: "chain_sum", parameters: {} };

/** Files are those that the method can learn from; a task's items do not say what to answer. */
export function Data({ form, method = "reinforcement" }) {
  const filesOnly = method !== "reinforcement";
  const files = useLoad(async (signal) => (await get("/v1/files", { purpose: "fine-tune", limit: 200 }, signal)).data, []);
  const kind = form.body.environment ? "environment" : "file";
  const choose = (wanted) => {
    if (wanted === kind) return;
    if (wanted === "file") form.change({ environment: undefined, validation_environment: undefined, training_file: fit[0]?.id ?? "" });
    else form.change({ training_file: undefined, validation_file: undefined, environment: ENVIRONMENT });
  };
  const all = files.data ?? [];
  const fit = all.filter((file) => file.methods?.includes(method) ?? true);
  // What is chosen stays, and the check below the form says why it cannot be.
  const listed = (id) => (id && !fit.some((one) => one.id === id) ? [all.find((one) => one.id === id) ?? { id }, ...fit] : fit).map((one) => [one.id, one.filename ? `${one.filename} · ${count(one.rows)} rows` : one.id]);
  return html`
    ${!filesOnly && html`<${Segments} label="Source of items" value=${kind} options=${[["environment", "Procedural task"], ["file", "JSONL file"]]} onChange=${choose} />`}
    ${kind === "file"
      ? html`<div class="fields wide">
            <${Select} form=${form} path="training_file" label="Training file" options=${[["", fit.length ? "Choose a file …" : "No file has such rows yet"], ...listed(form.body.training_file)]} />
            <${Select} form=${form} path="validation_file" label="Validation file" options=${[["", "None"], ...listed(form.body.validation_file)]} />
          </div>
          <${Upload} method=${method} onFile=${(file) => { files.reload(); form.set("training_file", file.id); }} />`
      : html`<div class="fields wide">
            <${TextInput} form=${form} path="environment.task" label="Task" hint="A reasoning-gym task, such as chain_sum or gcd" />
            <${NumberInput} form=${form} path="environment.size" label="Items" placeholder="1000" />
          </div>
          <${JsonInput} form=${form} path="environment.parameters" label="Parameters of the task" rows=${4} />`}
  `;
}

/** What a row has beside its messages, or in their place. */
const HAS = {
  reinforcement: html`<code>messages</code> and whatever the grader reads`,
  supervised: html`<code>messages</code>, the last one the assistant's`,
  dpo: html`<code>input</code>, <code>preferred_output</code> and <code>non_preferred_output</code>`,
};

function Upload({ method, onFile }) {
  const box = useRef(null);
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    setBusy(true);
    try {
      onFile(await upload(file));
      say(`Uploaded ${file.name}`);
    } catch (error) {
      say(error.message);
    }
    setBusy(false);
    event.target.value = "";
  };
  return html`<div class="row wrap">
    <button type="button" class="btn" disabled=${busy} onClick=${() => box.current.click()}><${Icon} name="plus" />${busy ? "Uploading …" : "Upload a file"}</button>
    <input ref=${box} type="file" accept=".jsonl,.json" hidden aria-label="File to upload" onChange=${send} />
    <span class="tiny muted">One object per line, with ${HAS[method]}.</span>
  </div>`;
}
