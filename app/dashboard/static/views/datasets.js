// Training files: dropped here, read before they are uploaded, and what is in those that are there.
import { get, JOBS_PATH, remove, upload } from "../core/api.js";
import { ago, bytes, count, dateTime, plural } from "../core/format.js";
import { cls, html, useRef, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { go, link } from "../core/router.js";
import { check } from "../datasets/check.js";
import { firstOf } from "../datasets/content.js";
import { Lengths } from "../datasets/lengths.js";
import { Errors, Rows } from "../datasets/rows.js";
import { METHODS } from "../jobs/methods.js";
import { jobName } from "../jobs/names.js";
import { Icon } from "../ui/icons.js";
import { Confirm, Empty, Id, Problem, Skeleton, Status } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const MOST = 200;

export function Datasets() {
  const files = useLoad((signal) => get("/v1/files", { purpose: "fine-tune", limit: MOST }, signal), []);
  const storage = useLoad((signal) => get("/v1/storage", {}, signal), []);
  const use = storage.data;
  return html`
    <div class="page-head">
      <div>
        <h1>Datasets</h1>
        <p>Files of rows that jobs train and validate on.${use && ` ${bytes(use.files.bytes)} in files, ${bytes(use.jobs.bytes)} in runs.`}</p>
      </div>
    </div>
    <${Drop} onDone=${(file) => go("datasets", file.id)} />
    <section class="card" aria-label="Files" style=${{ marginTop: "16px" }}>
      ${files.error ? html`<div style=${{ padding: "14px 18px" }}><${Problem} error=${files.error} retry=${files.reload} /></div>` : files.data === null ? html`<div style=${{ padding: "18px" }}><${Skeleton} height="76px" /></div>` : files.data.data.length ? html`<${Table} files=${files.data.data} />` : html`<${Empty} icon="datasets" title="No files yet">Drop a JSONL file above: one object per line: a prompt and whatever the grader reads, a conversation to learn, or a question with two answers.<//>`}
      ${files.data?.has_more && html`<p class="more muted small">The newest ${count(MOST)} are shown.</p>`}
    </section>
  `;
}

/** The methods that can learn from a file's rows, as the form calls them. */
const learntBy = (file) => file.methods.map((method) => METHODS[method][0]).join(", ");

function Table({ files }) {
  return html`<div class="table-box"><table class="jobs">
    <thead><tr><th scope="col">File</th><th scope="col" class="right">Rows</th><th scope="col" class="right">Size</th><th scope="col" class="right">Uploaded</th></tr></thead>
    <tbody>
      ${files.map(
        (file) => html`<tr key=${file.id}>
          <td class="job-name"><a href=${link("datasets", file.id)}>${file.filename}</a><span class="muted tiny ellipsis">${file.methods && `${learntBy(file)} · `}<span class="mono">${file.id}</span></span></td>
          <td class="right num">${count(file.rows)}</td>
          <td class="right num job-created">${bytes(file.bytes)}</td>
          <td class="right muted nowrap job-created" title=${dateTime(file.created_at)}>${ago(file.created_at)}</td>
        </tr>`,
      )}
    </tbody>
  </table></div>`;
}

/** A place to drop a file on; what is wrong with it is said by line, and nothing is sent then. */
function Drop({ onDone }) {
  const box = useRef(null);
  const [over, setOver] = useState(false);
  const [busy, setBusy] = useState(null);
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const take = async (file) => {
    if (!file) return;
    setError(null);
    setBusy("Reading …");
    const { text } = await firstOf(file.stream());
    const checked = check(text);
    setFound(checked);
    if (!checked.errors.length) {
      setBusy("Uploading …");
      try {
        onDone(await upload(file));
      } catch (problem) {
        setError(problem);
      }
    }
    setBusy(null);
  };
  const drag = (event, on) => {
    event.preventDefault();
    setOver(on);
  };
  return html`<section class="stack" aria-label="Upload">
    <div class=${cls("card drop", over && "over")} onDragOver=${(event) => drag(event, true)} onDragLeave=${(event) => drag(event, false)} onDrop=${(event) => { drag(event, false); take(event.dataTransfer.files[0]); }}>
      <p class="small">Drop a JSONL file here, or</p>
      <button type="button" class="btn" disabled=${busy !== null} onClick=${() => box.current.click()}><${Icon} name="plus" />${busy ?? "Choose a file"}</button>
      <input ref=${box} type="file" accept=".jsonl,.json" hidden aria-label="File to upload" onChange=${(event) => { take(event.target.files[0]); event.target.value = ""; }} />
    </div>
    ${found && html`<${Errors} found=${found} />`}
    ${error && html`<${Problem} error=${error} />`}
  </section>`;
}

export function Dataset({ id }) {
  const asked = useLoad(async (signal) => {
    const path = `/v1/files/${encodeURIComponent(id)}`;
    const [file, jobs] = await Promise.all([get(path, {}, signal), get(JOBS_PATH, { search: id, limit: 20 }, signal)]);
    return { file, jobs: jobs.data, content: await firstOf(`${path}/content`, signal) };
  }, [id]);
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const { file, jobs, content } = asked.data;
  const drop = async () => {
    try {
      await remove(`/v1/files/${encodeURIComponent(id)}`);
      say(`Deleted ${file.filename}`);
      go("datasets");
    } catch (problem) {
      say(problem.message);
    }
  };
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("datasets")}>Datasets</a> / <${Id} value=${id} /></nav>
    <div class="page-head">
      <div><h1>${file.filename}</h1><p>${plural(file.rows, "row")} · ${file.methods && `${learntBy(file)} · `}${bytes(file.bytes)} · ${dateTime(file.created_at)}</p></div>
      <div class="actions">
        <a class="btn primary" href=${link("jobs", "new", { file: id })}><${Icon} name="plus" />Train on it</a>
        <${Confirm} confirm="Delete the file" question="Finished jobs keep only the name of their training data." onConfirm=${drop}>Delete<//>
      </div>
    </div>
    <div class="stack">
      <${Lengths} file=${id} />
      <${Rows} found=${check(content.text)} part=${content.part} />
      <section class="card pad stack" aria-label="Used by">
        <h2>Used by</h2>
        ${jobs.length ? html`<ul class="stack">${jobs.map((job) => html`<li key=${job.id} class="row"><a href=${link("jobs", job.id)}>${jobName(job)}</a><${Status} job=${job} /></li>`)}</ul>` : html`<p class="small muted">No job yet.</p>`}
      </section>
    </div>
  `;
}
