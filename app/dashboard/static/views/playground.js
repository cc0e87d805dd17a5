import { html } from "../core/html.js";
export function Playground() { return html`<h1>Playground</h1>`; }
