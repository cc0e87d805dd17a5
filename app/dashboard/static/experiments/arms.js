// The arms of an experiment: chips to take out, and a list to add from.
import { html } from "../core/html.js";
import { errorAt, idOf, invalid } from "../jobs/inputs.js";
import { ABLATIONS, ALGORITHMS } from "../jobs/methods.js";
import { Field } from "../ui/parts.js";

/** What an arm is called: a word is a name as well as what it stands for. */
export const armName = (arm) => (typeof arm === "string" ? arm : (arm.name ?? arm.ablation ?? arm.algorithm?.type ?? "?"));

/** `taken`: names that cannot be chosen again, besides those of the form. */
export function ArmsInput({ form, label = "Arms", hint, taken = [] }) {
  const arms = form.body.arms ?? [];
  const names = [...arms.map(armName), ...taken];
  const free = (all) => all.filter((name) => !names.includes(name));
  const id = idOf(form, "arms");
  const add = (event) => {
    const { value } = event.target;
    event.target.value = "";
    if (value) form.set("arms", [...arms, value]);
  };
  return html`<${Field} id=${id} label=${label} hint=${hint} error=${errorAt(form, "arms", true)}>
    ${arms.length > 0 &&
    html`<ul class="chips" aria-label=${label}>
      ${arms.map(
        (arm, at) => html`<li key=${armName(arm)} class="chip">
          <span>${armName(arm)}</span>
          <button type="button" aria-label=${`Remove ${armName(arm)}`} onClick=${() => form.set("arms", arms.filter((_, i) => i !== at))}>×</button>
        </li>`,
      )}
    </ul>`}
    <select id=${id} class="input" ...${invalid(form, "arms", true)} value="" onChange=${add}>
      <option value="">Add an arm …</option>
      <optgroup label="Algorithms">${free(ALGORITHMS).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</optgroup>
      <optgroup label="Controls and ablations of policy_split">${free(ABLATIONS).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</optgroup>
    </select>
  <//>`;
}
