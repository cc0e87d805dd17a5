// A JSON value as YAML, as people write it: short lists and objects in a line, programs as blocks.

const WIDTH = 50;
const PLAIN = /^[A-Za-z_]([\w./@%+ -]*[\w./@%+-])?$/;
const WORDS = /^(true|false|yes|no|on|off|null|y|n)$/i;
// What a reader of YAML takes for the end of a line, or refuses.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u00a0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]/;
const EACH_UNSEEN = /[\u007f-\u00a0\u2028\u2029\ufeff\ufffe\uffff]/g;

export function yaml(value) {
  return `${block(value, 0)}\n`;
}

/** On lines of their own, each after `indent` spaces. */
function block(value, indent) {
  const pad = " ".repeat(indent);
  if (Array.isArray(value)) {
    return value.map((one) => `${pad}- ${isNested(one, indent + 2) ? block(one, indent + 2).trimStart() : flow(one)}`).join("\n");
  }
  return Object.entries(value)
    .map(([key, inner]) => {
      const text = isText(inner) && asBlock(inner, indent + 2);
      if (text) return `${pad}${scalar(key)}: ${text}`;
      const start = `${pad}${scalar(key)}:`;
      if (!isNested(inner, start.length)) return `${start} ${flow(inner)}`;
      return `${start}\n${block(inner, indent + 2)}`;
    })
    .join("\n");
}

const isText = (value) => typeof value === "string";
const isObject = (value) => value !== null && typeof value === "object";

/** Whether a value takes lines of its own after `before` characters. */
function isNested(value, before) {
  if (!isObject(value) || !Object.keys(value).length) return false;
  return before + flow(value).length > WIDTH || hasBlock(value) || depth(value) > 2;
}

const depth = (value) => (isObject(value) ? 1 + Math.max(0, ...Object.values(value).map(depth)) : 0);
const hasBlock = (value) => (isText(value) ? Boolean(asBlock(value, 0)) : isObject(value) && Object.values(value).some(hasBlock));

function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (!isObject(value)) return scalar(value);
  return `{${Object.entries(value).map(([key, inner]) => `${scalar(key)}: ${flow(inner)}`).join(", ")}}`;
}

function scalar(value) {
  // A number with an exponent and no point is text to many readers.
  if (!isText(value)) return JSON.stringify(value).replace(/^(-?\d+)e/, "$1.0e");
  if (PLAIN.test(value) && !WORDS.test(value)) return value;
  return JSON.stringify(value).replace(EACH_UNSEEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Text of several lines as a literal block; null for what a block could not hold to the letter. */
function asBlock(text, indent) {
  const body = text.endsWith("\n") ? text.slice(0, -1) : text;
  if (!body.includes("\n") || body.endsWith("\n") || /^\s/.test(body) || UNSEEN.test(text)) return null;
  const pad = " ".repeat(indent);
  const lines = body.split("\n").map((line) => (line ? pad + line : ""));
  return `|${text === body ? "-" : ""}\n${lines.join("\n")}`;
}
