// Colours of lines. Canvases need values where style sheets have tokens.

const probe = document.createElement("span");
probe.hidden = true;

/** A token such as `--n` as a colour of the present theme, with an opacity from 0 to 1. */
export function colour(token, opacity = 1) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${token})`;
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g);
  return `rgb(${r} ${g} ${b} / ${opacity})`;
}

const LETTERS = { N: "--n", N_on_H: "--n", prefix_N: "--n", kl_N_H: "--n", H: "--h", H_on_N: "--h", prefix_H: "--h" };
export const MORE = ["--c1", "--c2", "--c3", "--c4", "--c6", "--c7", "--c5", "--c8"];

/** The token of a metric: its mode's where its name has one. */
export function tokenOf(name, index = 0) {
  for (const part of name.split("/").reverse()) if (part in LETTERS) return LETTERS[part];
  return index === 0 ? "--c5" : MORE[(index - 1) % MORE.length];
}
