// The model that a form begins with: one of those that are here, or one to get.
import { html } from "../core/html.js";
import { Select } from "../jobs/inputs.js";
import { say } from "../ui/toasts.js";
import { GetModel } from "./get.js";

/** Ids of the models that can be trained, from the list of all. */
export const trainable = (models) => models.data.filter((model) => model.mode === "normal").map((model) => model.id);

/** The error of a form that has no model to begin with. */
export const missingModel = (body) => (body.model ? null : { message: "There are no models yet: get one from the list of models.", param: "model" });

export function ModelInput({ form, names }) {
  const { model } = form.body;
  const listed = names.includes(model) ? names : [model, ...names];
  return html`<${Select} form=${form} path="model" label="Model to train" options=${listed.map((name) => [name, name || "No models yet"])} />`;
}

/** Gets a model, which the form then has; `reload()` asks for the models again. */
export function AnotherModel({ form, names, reload }) {
  const getModel = html`<${GetModel}
    onDone=${(name) => {
      form.set("model", name);
      reload();
      say(`${name} is here`);
    }}
  />`;
  return names.length ? html`<details><summary class="small label">Get another model</summary>${getModel}</details>` : getModel;
}
