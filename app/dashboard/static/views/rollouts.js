import { html } from "../core/html.js";
export function Rollouts() { return html`<h1>Rollouts</h1>`; }
