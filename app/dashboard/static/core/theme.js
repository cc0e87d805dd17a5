// Light, dark, or what the system says.
import { Store } from "./store.js";

const NAME = "policysplit.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = new Store(document.documentElement.dataset.theme ?? "system");
/** Changes whenever the colours do: canvases draw themselves again. */
export const colours = new Store(0);

export function chooseTheme(name) {
  if (name === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(NAME);
  } else {
    document.documentElement.dataset.theme = name;
    localStorage.setItem(NAME, name);
  }
  theme.set(name);
  colours.set(colours.get() + 1);
}

system.addEventListener("change", () => colours.set(colours.get() + 1));

/** The value of a design token, as canvases need it. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
