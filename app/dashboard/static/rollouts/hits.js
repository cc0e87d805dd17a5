// What a search found, marked in a text.
import { html } from "../core/html.js";

export function Hits({ text, search }) {
  if (!search) return text;
  // As the API finds them: one text, in any case.
  const parts = text.split(new RegExp(`(${search.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")})`, "gi"));
  return parts.map((part, i) => (i % 2 ? html`<mark key=${i}>${part}</mark>` : part));
}
