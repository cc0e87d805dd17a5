// Lists that grow by a page at a time.
import { get } from "../core/api.js";
import { html } from "../core/html.js";

const PAGE = 100;

/** The first `pages` pages of a list: `{rows, more}`. */
export async function listed(path, pages, signal, query = {}) {
  const rows = [];
  for (let page = 0; page < pages; page++) {
    const found = await get(path, { ...query, limit: PAGE, after: rows.at(-1)?.id }, signal);
    rows.push(...found.data);
    if (!found.has_more) return { rows, more: false };
  }
  return { rows, more: true };
}

export function More({ more, loading, onMore }) {
  return more && html`<div class="more"><button type="button" class="btn" disabled=${loading} onClick=${onMore}>Show more</button></div>`;
}
