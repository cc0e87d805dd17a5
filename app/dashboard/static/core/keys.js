// The API key: in this tab's session storage and nowhere else. It is never part of an address.
import { Store } from "./store.js";

const NAME = "policysplit.key";

/** Whether a key is in use. */
export const hasKey = new Store(sessionStorage.getItem(NAME) !== null);
/** What the key dialog says while it is open, else null. */
export const keyPrompt = new Store(null);

let waiting = [];

export function currentKey() {
  return sessionStorage.getItem(NAME);
}

/** Open the dialog with the server's message; resolves once a key is given, to false when it is refused. */
export function askForKey(message) {
  keyPrompt.set(message);
  return new Promise((resolve) => waiting.push(resolve));
}

export function giveKey(key) {
  sessionStorage.setItem(NAME, key);
  hasKey.set(true);
  settle(true);
}

export function closePrompt() {
  settle(false);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
  hasKey.set(false);
}

function settle(given) {
  keyPrompt.set(null);
  const all = waiting;
  waiting = [];
  for (const resolve of all) resolve(given);
}
