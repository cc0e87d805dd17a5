// Who asks, as far as keys and projects tell.
import { get } from "../core/api.js";

export const MOST = 100;

/**
 * `{keys, projects, more, keyless, operator}`: the newest keys and the oldest projects that may be seen; without
 * any key whoever is on the machine is the operator.
 */
export async function access(signal) {
  const [keys, projects] = await Promise.all(["/v1/api_keys", "/v1/projects"].map((path) => get(path, { limit: MOST }, signal)));
  const keyless = !keys.data.length;
  const operator = keyless || keys.data.some((one) => one.current && one.operator);
  return { keys: keys.data, projects: projects.data, more: { keys: keys.has_more, projects: projects.has_more }, keyless, operator };
}
