// Inputs of a request's form: each edits one value of the body, by its path.
import { at } from "../core/paths.js";
import { html, useEffect, useState } from "../core/html.js";
import { Field } from "../ui/parts.js";

/**
 * A part of a form as a form of its own: paths are below `place`.
 *
 * `form`: `{body, set(path, value), change({path: value}), error}`; `error` is the API's, with the path of the
 * value at fault.
 */
export function within(form, place) {
  const { error } = form;
  const inside = error?.param?.startsWith(`${place}.`);
  return {
    body: at(form.body, place) ?? {},
    place: idOf(form, place),
    error: inside ? { message: error.message, param: error.param.slice(place.length + 1) } : null,
    set: (path, value) => form.set(`${place}.${path}`, value),
    change: (values) => form.change(Object.fromEntries(Object.entries(values).map(([path, value]) => [`${place}.${path}`, value]))),
  };
}

/** The id of the input of a value: its path in the whole body. */
export const idOf = (form, path) => (form.place ? `${form.place}.${path}` : path);

export function TextInput({ form, path, label, hint, ...rest }) {
  return html`<${Field} id=${idOf(form, path)} label=${label} hint=${hint} error=${errorAt(form, path)}>
    <input id=${idOf(form, path)} class="input" ...${invalid(form, path)} value=${at(form.body, path) ?? ""} onInput=${(event) => form.set(path, event.target.value || undefined)} ...${rest} />
  <//>`;
}

export function NumberInput({ form, path, label, hint, ...rest }) {
  const change = (event) => {
    const { value } = event.target;
    form.set(path, value === "" ? undefined : Number(value));
  };
  return html`<${Field} id=${idOf(form, path)} label=${label} hint=${hint} error=${errorAt(form, path)}>
    <input id=${idOf(form, path)} class="input num" type="number" step="any" ...${invalid(form, path)} value=${at(form.body, path) ?? ""} onInput=${change} ...${rest} />
  <//>`;
}

export function Select({ form, path, label, hint, options, onChange }) {
  return html`<${Field} id=${idOf(form, path)} label=${label} hint=${hint} error=${errorAt(form, path)}>
    <select id=${idOf(form, path)} class="input" ...${invalid(form, path)} value=${at(form.body, path) ?? ""} onChange=${(event) => (onChange ? onChange(event.target.value) : form.set(path, event.target.value || undefined))}>
      ${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select>
  <//>`;
}

/** An object as JSON. Text that is not JSON stays in the box and says so; the body keeps the last good one. */
export function JsonInput({ form, path, label, hint, rows = 6, value = at(form.body, path), onValue = (found) => form.set(path, found) }) {
  const pretty = value === undefined ? "" : JSON.stringify(value, null, 2);
  const [text, setText] = useState(pretty);
  const [wrong, setWrong] = useState(null);
  useEffect(() => {
    // The value was changed from elsewhere.
    if (JSON.stringify(parsed(text)) !== JSON.stringify(value)) {
      setText(pretty);
      setWrong(null);
    }
  }, [pretty]);
  const change = (event) => {
    setText(event.target.value);
    if (!event.target.value.trim()) {
      setWrong(null);
      onValue(undefined);
      return;
    }
    const found = parsed(event.target.value);
    setWrong(found === undefined ? "This is not valid JSON yet." : null);
    if (found !== undefined) onValue(found);
  };
  const error = wrong ?? errorAt(form, path, true);
  return html`<${Field} id=${idOf(form, path)} label=${label} hint=${hint} error=${error}>
    <textarea id=${idOf(form, path)} class="input code" rows=${rows} spellcheck="false" aria-invalid=${error ? "true" : null} value=${text} onInput=${change} />
  <//>`;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The API's message where it is about this value, or with `below` about a part of it. */
export function errorAt({ error }, path, below = false) {
  if (!error?.param) return null;
  return error.param === path || (below && error.param.startsWith(`${path}.`)) ? error.message : null;
}

export function invalid(form, path, below = false) {
  return errorAt(form, path, below) ? { "aria-invalid": "true", "aria-describedby": `${idOf(form, path)}-error` } : {};
}
