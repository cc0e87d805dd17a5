// Projects: each sees its own files, jobs and models alone.
import { post } from "../core/api.js";
import { ago, dateTime } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { link } from "../core/router.js";
import { Icon } from "../ui/icons.js";
import { Field, Id, Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";
import { access } from "./access.js";
import { Limits, limitsText } from "./limits.js";
import { More } from "./pages.js";

export function Projects() {
  const [pages, setPages] = useState(1);
  const [changed, setChanged] = useState(null);
  const asked = useLoad((signal) => access(signal, { projects: pages }), [pages]);
  const [name, setName] = useState("");
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      const made = await post("/v1/projects", { name: name.trim() });
      say(`Made ${made.name}`);
      setName("");
      asked.reload();
    } catch (found) {
      setError(found);
    }
  };
  if (asked.error) return html`<${Problem} error=${asked.error} retry=${asked.reload} />`;
  if (!asked.data) return html`<${Skeleton} height="240px" />`;
  const { projects, more, operator } = asked.data;
  return html`<div class="stack">
    ${operator
      ? html`<form class="card pad make" aria-label="New project" onSubmit=${submit}>
      <${Field} id="project-name" label="Name of a new project" hint="Only its own keys see its files, jobs, models and keys." error=${error?.message}>
        <input id="project-name" class="input" maxlength="256" required value=${name} onInput=${(event) => setName(event.target.value)} />
      <//>
      <button type="submit" class="btn primary" disabled=${!name.trim()}><${Icon} name="plus" />Make the project</button>
      </form>`
      : html`<div class="note"><${Icon} name="info" /><span class="grow">The key in use belongs to this project and sees no other. The operator creates projects: <code>policysplit projects create NAME</code>, or here with a key that <code>policysplit keys create --operator</code> made.</span></div>`}
    <section class="card" aria-label="Projects">
      <div class="table-box"><table class="jobs">
        <thead><tr><th scope="col">Project</th><th scope="col">Id</th><th scope="col">May use</th><th scope="col">Made</th><th scope="col"></th></tr></thead>
        <tbody>${projects.map(
          (one) => html`<tr key=${one.id}>
            <td><b>${one.name}</b></td>
            <td><${Id} value=${one.id} /></td>
            <td class="small soft" data-label="may use">${limitsText(one.limits)}</td>
            <td class="nowrap muted" title=${one.created_at > 0 ? dateTime(one.created_at) : null}>${one.created_at > 0 ? ago(one.created_at) : "with the service"}</td>
            <td class="right end"><div class="row ends">${operator && html`<button type="button" class="btn tight" onClick=${() => setChanged(one)}>Limits</button>`}<a class="btn tight" href=${link("settings", { project: one.id })}>Make a key</a></div></td>
          </tr>`,
        )}</tbody>
      </table></div>
      <${More} more=${more.projects} loading=${asked.loading} onMore=${() => setPages(pages + 1)} />
    </section>
    ${changed && html`<${Limits} project=${changed} onClose=${() => setChanged(null)} onDone=${() => { setChanged(null); asked.reload(); }} />`}
  </div>`;
}
