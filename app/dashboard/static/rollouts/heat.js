// A response token by token, tinted by how undecided or how unlikely each one was.
import { number } from "../core/format.js";
import { html } from "../core/html.js";

export const TINTS = [
  ["none", "Plain"],
  ["entropy", "Entropy"],
  ["logprob", "Log-prob"],
];

/** The value of a token as warmth from 0 to 1: entropy up to 4 nats, improbability up to 6. */
function warmth(token, tint) {
  if (tint === "entropy") return token.entropy === null ? 0 : Math.min(1, token.entropy / 4);
  return token.logprob === null ? 0 : Math.min(1, -token.logprob / 6);
}

export function Tokens({ tokens, tint }) {
  return html`<p class="answer tokens">
    ${tokens.map((token, i) => {
      const heat = Math.round(warmth(token, tint) * 62);
      const title = `${JSON.stringify(token.text)}\nentropy ${number(token.entropy)} nats\nlog-prob ${number(token.logprob)} (${number(100 * Math.exp(token.logprob))} %)`;
      return html`<span key=${i} title=${title} style=${{ background: `color-mix(in srgb, var(--heat) ${heat}%, transparent)` }}>${token.text}</span>`;
    })}
  </p>`;
}

export function HeatScale({ tint }) {
  if (tint === "none") return null;
  const [low, high] = tint === "entropy" ? ["0", "≥ 4 nats"] : ["log-prob 0", "≤ −6"];
  return html`<span class="heat-scale tiny muted"><span>${low}</span><i /><span>${high}</span></span>`;
}
