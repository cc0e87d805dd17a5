// Asks for a key when the server wants one.
import { html, useState } from "../core/html.js";
import { session } from "../core/session.js";
import { closePrompt, giveKey, keyPrompt } from "../core/keys.js";
import { useStore } from "../core/store.js";
import { Dialog } from "./parts.js";

export function KeyDialog() {
  const message = useStore(keyPrompt);
  return message === null ? null : html`<${Form} message=${message} />`;
}

function Form({ message }) {
  const [key, setKey] = useState("");
  const { sign_in: signIn, provider } = useStore(session);
  const submit = (event) => {
    event.preventDefault();
    if (key.trim()) giveKey(key.trim());
  };
  return html`<${Dialog} title="This service requires a key" onClose=${() => keyPrompt.get() !== null && closePrompt()}>
    <p class="soft small">${message}</p>
    ${signIn && html`<a class="btn primary" href=${signIn}>Sign in with ${provider}</a>`}
    <form class="stack" onSubmit=${submit}>
      <div class="field">
        <label for="key">API key</label>
        <input
          id="key"
          class="input mono"
          type="password"
          autocomplete="off"
          placeholder="sk-…"
          value=${key}
          onInput=${(event) => setKey(event.target.value)}
        />
        <span class="hint">Kept in this tab until it is closed, and sent only to this service.</span>
      </div>
      <div class="row" style=${{ justifyContent: "flex-end" }}>
        <button type="submit" class="btn primary" disabled=${!key.trim()}>Use this key</button>
      </div>
    </form>
  <//>`;
}
