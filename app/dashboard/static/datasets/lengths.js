// How long a file's prompts are in the tokens of a model that is there.
import { get } from "../core/api.js";
import { count, plural } from "../core/format.js";
import { html, useState } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { Problem } from "../ui/parts.js";

const FACTS = [["Prompt, median", "median"], ["Nine of ten, at most", "ninety_percent"], ["Prompt, longest", "longest"]];

export function Lengths({ file }) {
  const models = useLoad((signal) => get("/v1/models", { limit: 100 }, signal), []);
  const [chosen, choose] = useState(null);
  const names = (models.data?.data ?? []).filter((model) => model.mode === "normal").map((model) => model.id);
  const model = chosen ?? names[0] ?? null;
  const asked = useLoad(
    (signal) => (model ? get(`/v1/files/${encodeURIComponent(file)}/prompt_lengths`, { model }, signal) : Promise.resolve(null)),
    [file, model],
  );
  if (!model) return null;
  const lengths = asked.error ? null : asked.data;
  return html`
    <section class="card run-facts" aria-label="Prompts in tokens">
      <dl>
        <div><dt>In tokens of</dt><dd><select class="input" aria-label="Model" value=${model} onChange=${(event) => choose(event.target.value)}>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></dd></div>
        ${FACTS.map(([label, key]) => html`<div key=${key}><dt>${label}</dt><dd class="num">${lengths ? plural(lengths[key], "token") : asked.error ? "–" : "…"}</dd></div>`)}
      </dl>
      <p class="small muted run-note">Messages only; the model's chat template adds tokens to each.${lengths && !lengths.complete && ` Of the first ${count(lengths.rows)} rows.`}</p>
    </section>
    ${asked.error && html`<${Problem} error=${asked.error} retry=${asked.reload} />`}
  `;
}
