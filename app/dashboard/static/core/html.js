// The view library as one import. `html` makes elements from templates; whatever stands in `${…}` becomes text
// or an attribute and never markup.
import { h, render, Fragment } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render, Fragment };
export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
export const html = htm.bind(h);

/** Class names that apply: `cls("a", on && "b")`. */
export function cls(...names) {
  return names.filter(Boolean).join(" ");
}
