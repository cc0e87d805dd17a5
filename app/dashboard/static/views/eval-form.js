// A new eval: the form of its items, and criteria.
import { EVALS_PATH } from "../core/api.js";
import { plural } from "../core/format.js";
import { html } from "../core/html.js";
import { go, link } from "../core/router.js";
import { GRADERS } from "../jobs/graders.js";
import { JsonInput, TextInput } from "../jobs/inputs.js";
import { Part, Send, useDraft } from "../ui/draft.js";

const BODY = {
  name: "Sums",
  data_source_config: { type: "custom", item_schema: { type: "object", required: ["question", "answer"] }, include_sample_schema: true },
  testing_criteria: [{ type: "string_check", name: "exact", input: "{{sample.output_text}}", reference: "{{item.answer}}", operation: "eq" }],
};

export function EvalForm() {
  const draft = useDraft(BODY, EVALS_PATH, { checked: false, onDone: (made) => go("evals", made.id, "runs", "new") });
  const { form } = draft;
  return html`
    <nav class="crumb" aria-label="Breadcrumb"><a href=${link("evals")}>Evals</a> / New</nav>
    <div class="page-head">
      <div>
        <h1>New eval</h1>
        <p>What items look like, and what makes an answer pass. Runs are compared by this, so it cannot be changed later.</p>
      </div>
    </div>
    <form class="stack" onSubmit=${draft.send} novalidate style=${{ maxWidth: "760px" }}>
      <${Part} title="Eval">
        <${TextInput} form=${form} path="name" label="Name" maxlength="256" />
        <${JsonInput} form=${form} path="data_source_config.item_schema" label="Schema of an item" rows=${7} hint="A JSON schema; {} accepts any object." />
      <//>
      <${Part} title="Criteria" about="An item passes if it passes all of them. pass_threshold is on the grader's own scale; without it the full score is needed.">
        <${JsonInput} form=${form} path="testing_criteria" label="Graders" rows=${12} hint=${`Each one of: ${Object.keys(GRADERS).join(", ")}.`} />
      <//>
      <${Send} draft=${draft} verb="Create eval" doing="Creating …">${plural(form.body.testing_criteria?.length ?? 0, "criterion", "criteria")}: checked when it is created.<//>
    </form>
  `;
}
