// The beginning of a file, as far as a page reads it: whole lines.
import { body } from "../core/api.js";

const MOST = 8 * 2 ** 20;

/** `{text, part}` of a stream of bytes, or of what a path answers with; `part`: there is more. */
export async function firstOf(source, signal) {
  const stream = typeof source === "string" ? await body(source, signal) : source;
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let [text, size] = ["", 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), part: false };
    text += decoder.decode(value, { stream: true });
    size += value.length;
    if (size < MOST) continue;
    await reader.cancel();
    return { text: text.slice(0, text.lastIndexOf("\n") + 1), part: true };
  }
}
