// The API key: in this tab's session storage and nowhere else. It is never part of an address.
import { Store } from "./store.js";

const NAME = "policysplit.key";

/** Whether a key is in use. */
export const hasKey = new Store(sessionStorage.getItem(NAME) !== null);
/** What the key dialog says while it is open, else null. */
export const keyPrompt = new Store(null);

/** Whether somebody closed the dialog without a key: then it opens again only when asked for. */
export const refused = new Store(false);

let waiting = [];

export function currentKey() {
  return sessionStorage.getItem(NAME);
}

/** Open the dialog with the server's message; resolves once a key is given, to false when it is refused or was. */
export function askForKey(message) {
  if (refused.get()) return Promise.resolve(false);
  keyPrompt.set(message);
  return new Promise((resolve) => waiting.push(resolve));
}

export function giveKey(key) {
  refused.set(false);
  keepKey(key);
  // What was refused before the dialog was closed is asked for again.
  if (!waiting.length) location.reload();
  settle(true);
}

/** Go on with this key in the tab. */
export function keepKey(key) {
  sessionStorage.setItem(NAME, key);
  hasKey.set(true);
}

export function closePrompt() {
  refused.set(true);
  settle(false);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
  hasKey.set(false);
}

/** Open the dialog because somebody wants it. */
export function openPrompt() {
  refused.set(false);
  keyPrompt.set("Give a key of this service.");
}

function settle(given) {
  keyPrompt.set(null);
  const all = waiting;
  waiting = [];
  for (const resolve of all) resolve(given);
}
