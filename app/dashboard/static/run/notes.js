// What people say of a run: a note and tags, stored with the job.
import { jobPath, post } from "../core/api.js";
import { html, useState } from "../core/html.js";
import { link } from "../core/router.js";
import { Field } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

export function Notes({ job, onChange }) {
  const [draft, setDraft] = useState(null);
  if (draft) return html`<${Form} job=${job} onChange=${onChange} onClose=${() => setDraft(null)} />`;
  const empty = !job.note && !job.tags.length;
  return html`<section class="row wrap notes" aria-label="Notes">
    ${job.tags.map((tag) => html`<a key=${tag} class="tag" href=${link("jobs", { q: tag })}>${tag}</a>`)}
    ${job.note && html`<p class="small soft">${job.note}</p>`}
    <button type="button" class="btn quiet tight" onClick=${() => setDraft(true)}>${empty ? "Add a note or tags" : "Edit note and tags"}</button>
  </section>`;
}

function Form({ job, onChange, onClose }) {
  const [note, setNote] = useState(job.note ?? "");
  const [tags, setTags] = useState(job.tags.join(", "));
  const [error, setError] = useState(null);
  const save = async (event) => {
    event.preventDefault();
    try {
      const list = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
      onChange(await post(jobPath(job.id), { note: note.trim() || null, tags: list }));
      say("Saved");
      onClose();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`<form class="card pad stack notes" onSubmit=${save}>
    <${Field} id="tags" label="Tags" hint="Separated by commas; the jobs page finds them" error=${error?.param?.startsWith("tags") && error.message}>
      <input id="tags" class="input" value=${tags} onInput=${(event) => setTags(event.target.value)} />
    <//>
    <${Field} id="note" label="Note" error=${error && !error.param?.startsWith("tags") && error.message}>
      <textarea id="note" class="input" rows="3" value=${note} onInput=${(event) => setNote(event.target.value)} />
    <//>
    <div class="row"><button type="submit" class="btn primary">Save</button><button type="button" class="btn" onClick=${onClose}>Discard</button></div>
  </form>`;
}
