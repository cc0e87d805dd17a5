import { html } from "../core/html.js";
export function Compare() { return html`<h1>Compare</h1>`; }
