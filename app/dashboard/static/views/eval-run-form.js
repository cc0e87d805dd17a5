// A new run of an eval: a file's items, asked of a model in one mode; or the same as JSON.
import { evalPath, get } from "../core/api.js";
import { html } from "../core/html.js";
import { useLoad } from "../core/poll.js";
import { go, link } from "../core/router.js";
import { JsonInput, NumberInput, Select, TextInput } from "../jobs/inputs.js";
import { Part, Send, useDraft } from "../ui/draft.js";
import { Problem, Skeleton } from "../ui/parts.js";
import { say } from "../ui/toasts.js";

const QUESTION = [{ role: "user", content: "{{item.question}}" }];

export function EvalRunForm({ id }) {
  const start = useLoad(
    async (signal) => {
      const [made, models, ...files] = await Promise.all([
        get(evalPath(id), {}, signal),
        get("/v1/models", {}, signal),
        ...["evals", "fine-tune"].map((purpose) => get("/v1/files", { purpose, limit: 100 }, signal)),
      ]);
      return { made, models: models.data.map((model) => model.id), files: files.flatMap((page) => page.data) };
    },
    [id],
  );
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("evals")}>Evals</a> / <a href=${link("evals", id)}>${start.data?.made.name ?? "Eval"}</a> / New run</nav>
    <div class="page-head">
      <div>
        <h1>New run</h1>
        <p>One model answers each item of a file, in one mode. Run it once for each mode to compare them.</p>
      </div>
    </div>
    ${start.error ? html`<${Problem} error=${start.error} retry=${start.reload} />` : start.data ? html`<${Form} id=${id} start=${start.data} />` : html`<${Skeleton} height="360px" />`}
  `;
}

function Form({ id, start: { models, files } }) {
  const body = {
    data_source: {
      type: "completions",
      model: models[0] ?? "",
      source: { type: "file_id", id: files[0]?.id ?? "" },
      input_messages: { type: "template", template: QUESTION },
      sampling_params: { max_completion_tokens: 256, seed: 42 },
    },
  };
  const draft = useDraft(body, `${evalPath(id)}/runs`, {
    checked: false,
    onDone: (made) => {
      say("The run waits for a worker");
      go("evals", id, "runs", made.id);
    },
  });
  const { form } = draft;
  return html`<form class="stack" onSubmit=${draft.send} novalidate style=${{ maxWidth: "760px" }}>
    <${Part} title="What is asked">
      <div class="fields wide">
        <${Select} form=${form} path="data_source.model" label="Model" options=${models.length ? models.map((name) => [name, name]) : [["", "No models yet"]]} hint="Ids ending with :high-entropy select that mode" />
        <${Select} form=${form} path="data_source.source.id" label="Items" options=${files.length ? files.map((file) => [file.id, `${file.filename} · ${file.purpose}`]) : [["", "No files yet: upload one with the purpose evals"]]} hint="In a training file, each row is an item" />
        <${TextInput} form=${form} path="name" label="Name" maxlength="256" placeholder="the model's id" />
      </div>
      <${JsonInput} form=${form} path="data_source.input_messages" label="Messages" rows=${9} hint='With {{item.FIELD}}; or {"type": "item_reference", "item_reference": "item.messages"}' />
    <//>
    <${Part} title="How it samples">
      <div class="fields">
        <${NumberInput} form=${form} path="data_source.sampling_params.temperature" label="Temperature" placeholder="1" />
        <${NumberInput} form=${form} path="data_source.sampling_params.max_completion_tokens" label="Longest answer, tokens" placeholder="what the context has room for" />
        <${NumberInput} form=${form} path="data_source.sampling_params.seed" label="Seed" placeholder="42" hint="Runs with the same seed sample alike" />
      </div>
    <//>
    <details class="card pad">
      <summary><h2 style=${{ display: "inline" }}>Everything, as JSON</h2></summary>
      <div style=${{ marginTop: "14px" }}>
        <${JsonInput} form=${form} path="body" value=${draft.body} onValue=${(value) => value && draft.setBody(value)} label="Body of the request" rows=${18} hint="For existing answers (jsonl), rows in the request, or an operator's endpoint." />
      </div>
    </details>
    <${Send} draft=${draft} verb="Start run" doing="Checking the rows …">Every row is checked before the run is accepted.<//>
  </form>`;
}
