// Program text that can be copied, in several languages.
import { html, useState } from "../core/html.js";
import { Segments, copy } from "./parts.js";
import { Icon } from "./icons.js";

/** `samples`: `[[name, text], …]`. */
export function Code({ title, samples }) {
  const [chosen, setChosen] = useState(samples[0][0]);
  const text = (samples.find(([name]) => name === chosen) ?? samples[0])[1];
  return html`<section class="card">
    <div class="card-head">
      <h3>${title}</h3>
      <div class="row">
        ${samples.length > 1 && html`<${Segments} label="Language" value=${chosen} options=${samples.map(([name]) => [name, name])} onChange=${setChosen} />`}
        <button type="button" class="btn quiet tight" onClick=${() => copy(text)}><${Icon} name="copy" />Copy</button>
      </div>
    </div>
    <pre class="codebox" tabindex="0" aria-label=${`${title}, ${chosen}`}>${text}</pre>
  </section>`;
}
