import { html } from "../core/html.js";
export function Graders() { return html`<h1>Graders</h1>`; }
