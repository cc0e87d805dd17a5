// Where the page is: the part of the address after #. `#/jobs/ftjob-1/rollouts?step=3`.
import { Store } from "./store.js";

/** `{path: ["jobs", "ftjob-1"], query: URLSearchParams}` */
export const route = new Store(read());
addEventListener("hashchange", () => {
  const before = route.get();
  route.set(read());
  // A new page begins at its top, and screen readers hear its name; a changed filter is the same page.
  if (before.path.join("/") !== route.get().path.join("/")) {
    scrollTo(0, 0);
    requestAnimationFrame(() => {
      const main = document.getElementById("main");
      // Whoever was quicker, and is already in the new page, stays there.
      if (!main?.contains(document.activeElement)) main?.focus({ preventScroll: true });
    });
  }
});

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { path: parts.length ? parts : ["jobs"], query: new URLSearchParams(query) };
}

/** A part of an address; one that was cut off or mistyped leads to what there is not, and not to an error. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page: `link("jobs", id)`, or with a query as last argument. */
export function link(...parts) {
  const query = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(...parts) {
  location.hash = link(...parts);
}

/** Change parts of the query without a new entry in the history; empty values are left out. */
export function setQuery(changes) {
  const { path, query } = route.get();
  const all = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", link(...path, all));
  route.set(read());
}
