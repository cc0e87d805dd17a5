// What stays on every page: brand, navigation, theme, key.
import { html } from "../core/html.js";
import { forgetKey, hasKey, openPrompt, refused } from "../core/keys.js";
import { session, signOut } from "../core/session.js";
import { link } from "../core/router.js";
import { useStore } from "../core/store.js";
import { chooseTheme, theme } from "../core/theme.js";
import { Icon, Logo } from "./icons.js";
import { Mode } from "./parts.js";

const PAGES = [
  ["jobs", "Jobs"],
  ["experiments", "Experiments"],
  ["evals", "Evals"],
  ["datasets", "Datasets"],
  ["compare", "Compare"],
  ["playground", "Playground"],
  ["graders", "Graders"],
  ["settings", "Settings"],
];
const THEMES = { system: ["system", "light"], light: ["sun", "dark"], dark: ["moon", "system"] };

export function Frame({ page, children }) {
  return html`<a
      class="skip"
      href="#main"
      onClick=${(event) => {
        event.preventDefault();
        document.getElementById("main").focus();
      }}
      >Skip to the content</a
    >
    <header class="side">
      <a class="brand" href=${link("jobs")}><${Logo} /><span>Policysplit</span></a>
      <nav class="nav" aria-label="Pages">
        ${PAGES.map(
          ([name, text]) =>
            html`<a key=${name} href=${link(name)} aria-current=${page === name ? "page" : null}>
              <${Icon} name=${name} /><span>${text}</span>
            </a>`,
        )}
      </nav>
      <div class="side-foot">
        <div class="modes"><${Mode} mode="normal" /><${Mode} mode="high-entropy" /></div>
        <div class="row" style=${{ justifyContent: "space-between" }}><${Theme} /><${Person} /><${Key} /></div>
        <div class="links"><a href="/docs">API reference</a></div>
      </div>
    </header>
    <main id="main" class="main" tabindex="-1">${children}</main>`;
}

function Theme() {
  const chosen = useStore(theme);
  const [icon, next] = THEMES[chosen];
  return html`<button
    type="button"
    class="btn quiet tight"
    aria-label=${`Theme: ${chosen}. Change to ${next}`}
    title=${`Theme: ${chosen}`}
    onClick=${() => chooseTheme(next)}
  >
    <${Icon} name=${icon} />
  </button>`;
}

function Person() {
  const { email } = useStore(session);
  return email && html`<button type="button" class="btn quiet tight" onClick=${signOut} title=${`Signed in as ${email}`}>Sign out</button>`;
}

function Key() {
  const closed = useStore(refused);
  if (!useStore(hasKey)) {
    return closed && html`<button type="button" class="btn quiet tight" onClick=${openPrompt}><${Icon} name="key" />Give a key</button>`;
  }
  return html`<button type="button" class="btn quiet tight" onClick=${forgetKey} title="Forget this tab's key">
    <${Icon} name="key" />Forget key
  </button>`;
}
