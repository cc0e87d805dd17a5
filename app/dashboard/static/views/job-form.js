import { html } from "../core/html.js";
export function JobForm() { return html`<h1>JobForm</h1>`; }
