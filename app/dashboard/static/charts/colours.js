// Colours of lines. Canvases need values where style sheets have tokens.
import { colours } from "../core/theme.js";

const probe = document.createElement("span");
probe.hidden = true;

// Asking for a style makes the browser work out the page's: once for a token, and not with each frame.
const known = new Map();
colours.subscribe(() => known.clear());

/** A token such as `--n` as a colour of the present theme, with an opacity from 0 to 1. */
export function colour(token, opacity = 1) {
  if (!known.has(token)) known.set(token, parts(token));
  return `rgb(${known.get(token)} / ${opacity})`;
}

function parts(token) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${token})`;
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g);
  return `${r} ${g} ${b}`;
}

const LETTERS = { N: "--n", N_on_H: "--n", prefix_N: "--n", kl_N_H: "--n", H: "--h", H_on_N: "--h", prefix_H: "--h" };
export const MORE = ["--c1", "--c2", "--c3", "--c4", "--c6", "--c7", "--c5", "--c8"];

/** The token of a metric: its mode's where its name has one. */
export function tokenOf(name, index = 0) {
  for (const part of name.split("/").reverse()) if (part in LETTERS) return LETTERS[part];
  return index === 0 ? "--c5" : MORE[(index - 1) % MORE.length];
}
