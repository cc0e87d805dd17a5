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

/** `filesOnly`: a task's items do not say what to answer. */
export function Data({ form, filesOnly = false }) {
  const files = useLoad(async (signal) => (await get("/v1/files", { purpose: "fine-tune", limit: 200 }, signal)).data, []);
  const kind = form.body.environment ? "environment" : "file";
  const choose = (wanted) => {
    if (wanted === kind) return;
    if (wanted === "file") form.change({ environment: undefined, validation_environment: undefined, training_file: files.data?.[0]?.id ?? "" });
    else form.change({ training_file: undefined, validation_file: undefined, environment: ENVIRONMENT });
  };
  const known = (files.data ?? []).map((file) => [file.id, `${file.filename} · ${count(file.rows)} rows`]);
  const chosen = form.body.training_file;
  const listed = chosen && !known.some(([id]) => id === chosen) ? [[chosen, chosen], ...known] : known;
  return html`
    ${!filesOnly && html`<${Segments} label="Source of items" value=${kind} options=${[["environment", "Procedural task"], ["file", "JSONL file"]]} onChange=${choose} />`}
    ${kind === "file"
      ? html`<div class="fields wide">
            <${Select} form=${form} path="training_file" label="Training file" options=${[["", "Choose a file …"], ...listed]} />
            <${Select} form=${form} path="validation_file" label="Validation file" options=${[["", "None"], ...known]} />
          </div>
          <${Upload} filesOnly=${filesOnly} onFile=${(file) => { files.reload(); form.set("training_file", file.id); }} />`
      : html`<div class="fields wide">
            <${TextInput} form=${form} path="environment.task" label="Task" hint="A reasoning-gym task, such as chain_sum or gcd" />
            <${NumberInput} form=${form} path="environment.size" label="Items" placeholder="1000" />
          </div>
          <${JsonInput} form=${form} path="environment.parameters" label="Parameters of the task" rows=${4} />`}
  `;
}

function Upload({ filesOnly, onFile }) {
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
    <span class="tiny muted">One object a line, with <code>messages</code>${filesOnly ? ", the last one the assistant's, or two outputs" : " and whatever the grader reads"}.</span>
  </div>`;
}
