// A form's draft of a request: checked by the API a moment after each change, sent once.
import { post } from "../core/api.js";
import { html, useEffect, useRef, useState } from "../core/html.js";
import { put } from "../core/paths.js";
import { useSettled } from "../core/poll.js";
import { Icon } from "./icons.js";

/**
 * `path` takes the body, and `path`/validate says what would come of it. `missing(body)`: an error that need not
 * be asked for, or null; `checked`: whether there is such a check; `onDone(made)` gets what was made.
 *
 * Returns `{body, setBody, form, found, error, stale, busy, send}`: `found` is the answer to the last body that
 * was checked, null where it has an error.
 */
export function useDraft(initial, path, { missing = () => null, checked = true, onDone }) {
  const [body, setBody] = useState(initial);
  const [busy, setBusy] = useState(false);
  const settled = useSettled(body, 350);
  const [state, setState] = useState({ of: null, error: null, found: null });
  // Pressing twice, or again after a lost answer, makes one thing.
  const attempt = useRef({ body: null, key: null });
  useEffect(() => {
    const known = missing(settled);
    if (known || !checked) {
      setState({ of: settled, error: known, found: null });
      return undefined;
    }
    const aborter = new AbortController();
    post(`${path}/validate`, settled, { signal: aborter.signal })
      .then((found) => setState({ of: settled, error: null, found }))
      .catch((error) => error.name !== "AbortError" && setState({ of: settled, error, found: null }));
    return () => aborter.abort();
  }, [settled, path]);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    if (attempt.current.body !== JSON.stringify(body)) attempt.current = { body: JSON.stringify(body), key: crypto.randomUUID() };
    try {
      onDone(await post(path, body, { headers: { "idempotency-key": attempt.current.key } }));
    } catch (error) {
      setState({ of: body, error, found: null });
      setBusy(false);
    }
  };
  const form = {
    body,
    error: state.error,
    set: (at, value) => setBody((old) => put(old, at, value)),
    change: (values) => setBody((old) => Object.entries(values).reduce((all, [at, value]) => put(all, at, value), old)),
  };
  return { body, setBody, form, found: state.found, error: state.error, stale: state.of !== body, busy, send };
}

/** What the check says, and the button that sends. Children: what would come of it. */
export function Send({ draft, verb, doing, nothing = false, children }) {
  return html`<div class="form-end">
    ${draft.stale
      ? html`<p class="small muted" role="status">Checking …</p>`
      : draft.error
        ? html`<div class="note tone-bad grow" role="status"><${Icon} name="bad" /><span>${draft.error.message}</span></div>`
        : html`<div class=${`note grow ${nothing ? "" : "tone-ok"}`} role="status"><${Icon} name=${nothing ? "info" : "ok"} /><span>${children}</span></div>`}
    <button type="submit" class="btn primary" disabled=${draft.busy || (!draft.stale && (draft.error || nothing))}>${draft.busy ? doing : verb}</button>
  </div>`;
}

/** A part of a form under a title. */
export function Part({ title, about, children }) {
  return html`<section class="card pad stack" aria-label=${title}>
    <div>
      <h2>${title}</h2>
      ${about && html`<p class="small muted">${about}</p>`}
    </div>
    ${children}
  </section>`;
}
