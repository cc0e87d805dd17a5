// Who is signed in in this browser, beside keys: the cookie is for the browser alone, so the service is asked.
import { Store } from "./store.js";

const PATH = "/auth/";

export const session = new Store({ sign_in: null, provider: "", email: null, operator: false });

/** Ask once; without an answer there is a key alone. */
export async function askWho() {
  try {
    const answer = await fetch(`${PATH}session`, { credentials: "same-origin" });
    if (answer.ok) session.set(await answer.json());
  } catch {
    // The page tells of a service that does not answer by what it asks next.
  }
}

export async function signOut() {
  await fetch(`${PATH}logout`, { method: "POST", credentials: "same-origin" });
  location.reload();
}
