// Who may use the service, who is told of what, what lies on the disk, and what works.
import { html } from "../core/html.js";
import { link } from "../core/router.js";
import { Audit } from "../settings/audit.js";
import { Keys } from "../settings/keys.js";
import { Projects } from "../settings/projects.js";
import { Storage } from "../settings/storage.js";
import { Usage } from "../settings/usage.js";
import { Webhooks } from "../settings/webhooks.js";
import { Workers } from "../settings/workers.js";
import { Tabs } from "../ui/parts.js";

/** By the last part of the address. */
const PAGES = {
  "": ["API keys", Keys],
  projects: ["Projects", Projects],
  webhooks: ["Webhooks", Webhooks],
  storage: ["Storage", Storage],
  usage: ["Usage", Usage],
  workers: ["Workers", Workers],
  audit: ["Audit log", Audit],
};
export const isSetting = (name) => name in PAGES;

export function Settings({ part, query }) {
  const [, Page] = PAGES[part];
  return html`
    <div class="page-head"><div><h1>Settings</h1></div></div>
    <${Tabs} label="Settings" at=${part} tabs=${Object.entries(PAGES).map(([name, [text]]) => [name, text])} to=${(name) => link("settings", ...(name ? [name] : []))} />
    <${Page} key=${part} query=${query} />
  `;
}
