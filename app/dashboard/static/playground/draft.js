// What somebody has typed into the playground: it is there again when they come back to it in this tab.
import { useState } from "../core/html.js";

const NAME = "policysplit.playground";
const EMPTY = { prompt: "", system: "", settings: { n: 4, max_tokens: 128, temperature: 1, top_p: 1, seed: "" } };

/** `[draft, change(parts)]` */
export function useDraft() {
  const [draft, setDraft] = useState(stored);
  const change = (parts) => {
    const next = { ...draft, ...parts };
    sessionStorage.setItem(NAME, JSON.stringify(next));
    setDraft(next);
  };
  return [draft, change];
}

function stored() {
  try {
    const found = JSON.parse(sessionStorage.getItem(NAME)) ?? {};
    return { ...EMPTY, ...found, settings: { ...EMPTY.settings, ...found.settings } };
  } catch {
    return EMPTY;
  }
}
