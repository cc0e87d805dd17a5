// The window's title.
import { useEffect } from "./html.js";

/** Null leaves it to a view further in. */
export function useTitle(text) {
  useEffect(() => {
    if (text !== null) document.title = `${text} · Policysplit`;
  }, [text]);
}
