// Who asks, as far as keys and projects tell.
import { session } from "../core/session.js";
import { listed } from "./pages.js";

/**
 * `{keys, projects, more, keyless, operator}`: the newest keys and the oldest projects that may be seen, so many
 * pages of each; without any key whoever is on the machine is the operator.
 */
export async function access(signal, pages = {}) {
  const [keys, projects] = await Promise.all([
    listed("/v1/api_keys", pages.keys ?? 1, signal),
    listed("/v1/projects", pages.projects ?? 1, signal),
  ]);
  const person = session.get();
  const keyless = !keys.rows.length && person.email === null;
  const operator = keyless || person.operator || keys.rows.some((one) => one.current && one.operator);
  return { keys: keys.rows, projects: projects.rows, more: { keys: keys.more, projects: projects.more }, keyless, operator };
}
