// A training file as it is read in the browser: rows, fields, lengths, repetitions, and what is wrong by line.
// Pure: text in, numbers out. The service checks again what is uploaded, and more.

const MOST_ERRORS = 20;
const MOST_ROWS = 20;

/** `{rows, errors, more, fields, lengths, duplicates, first}` of JSONL. */
export function check(text) {
  const found = { rows: 0, errors: [], more: 0, fields: new Map(), lengths: [], duplicates: [], first: [] };
  const seen = new Map();
  text.replace(/^\ufeff/, "").split("\n").forEach((line, i) => {
    if (!line.trim()) return;
    const number = i + 1;
    const [row, problem] = read(line);
    if (problem) {
      if (found.errors.length < MOST_ERRORS) found.errors.push({ line: number, message: problem });
      else found.more++;
      return;
    }
    found.rows++;
    for (const name of Object.keys(row)) if (row[name] !== null) found.fields.set(name, (found.fields.get(name) ?? 0) + 1);
    found.lengths.push(messagesOf(row).reduce((sum, one) => sum + textOf(one.content).length, 0));
    const key = JSON.stringify([messagesOf(row), row.preferred_output]);
    if (seen.has(key)) found.duplicates.push({ line: number, of: seen.get(key) });
    else seen.set(key, number);
    if (found.first.length < MOST_ROWS) found.first.push({ line: number, row });
  });
  return found;
}

function read(line) {
  let row;
  try {
    row = JSON.parse(line);
  } catch (error) {
    return [null, `is not JSON: ${error.message}`];
  }
  if (row === null || typeof row !== "object" || Array.isArray(row)) return [null, "is not a JSON object"];
  const messages = messagesOf(row);
  if (!Array.isArray(messages) || !messages.length) return [null, "has no 'messages', a list of at least one message"];
  if (!messages.every((one) => one && typeof one === "object" && typeof one.role === "string")) return [null, "has a message without 'role'"];
  return [row, null];
}

/** The messages of a row, or of the input of one that prefers an output to another. */
export function messagesOf(row) {
  return row.messages ?? row.input?.messages;
}

/** A message's text, whichever way it is written. */
export function textOf(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => part?.text ?? "").join("") : "";
}

/** `{median, largest}`, null of nothing. */
export function spread(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)], largest: sorted.at(-1) };
}
