// Seeds as people write them: 0-4, 7.
import { html, useEffect, useState } from "../core/html.js";
import { errorAt, idOf, invalid } from "../jobs/inputs.js";
import { Field } from "../ui/parts.js";

/** More than an experiment takes; a range of more stays as it was typed. */
const MOST = 1001;

/** Numbers of a text; what cannot be read as a seed stays text, and the API says so. */
export function seedsOf(text) {
  return text.split(/[\s,]+/).filter(Boolean).flatMap((part) => {
    const range = /^(\d{1,10})(?:[-–](\d{1,10}))?$/.exec(part);
    if (!range) return [part];
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    if (last < first || last - first >= MOST) return [part];
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

export function seedsText(seeds) {
  const parts = [];
  for (const seed of seeds) {
    const last = parts.at(-1);
    if (last && Number.isInteger(seed) && last.end === seed - 1) last.end = seed;
    else parts.push({ begin: seed, end: seed });
  }
  return parts.flatMap(({ begin, end }) => (begin === end ? [begin] : end === begin + 1 ? [begin, end] : [`${begin}-${end}`])).join(", ");
}

export function SeedsInput({ form, label = "Seeds", hint }) {
  const seeds = form.body.seeds ?? [];
  const told = Array.isArray(seeds) ? seeds : [seeds];
  const [text, setText] = useState(seedsText(told));
  useEffect(() => {
    // The value was changed from elsewhere.
    if (JSON.stringify(seedsOf(text)) !== JSON.stringify(told)) setText(seedsText(told));
  }, [JSON.stringify(told)]);
  const change = (event) => {
    setText(event.target.value);
    form.set("seeds", seedsOf(event.target.value));
  };
  return html`<${Field} id=${idOf(form, "seeds")} label=${label} hint=${hint} error=${errorAt(form, "seeds", true)}>
    <input id=${idOf(form, "seeds")} class="input num" autocomplete="off" ...${invalid(form, "seeds", true)} value=${text} onInput=${change} />
  <//>`;
}
