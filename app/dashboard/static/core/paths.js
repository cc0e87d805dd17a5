// Values inside nested objects and lists, by dotted path; they are copied, never changed.

export function at(value, path) {
  return path.split(".").reduce((inner, key) => inner?.[key], value);
}

/** `value` with `path` set; undefined removes the key, and the objects that are empty then. */
export function put(value, path, leaf) {
  const [key, ...rest] = path.split(".");
  const copy = Array.isArray(value) ? [...value] : { ...value };
  const inner = rest.length ? put(copy[key] ?? {}, rest.join("."), leaf) : leaf;
  const gone = inner === undefined || (rest.length && typeof inner === "object" && inner !== null && !Object.keys(inner).length);
  if (gone && Array.isArray(copy)) copy.splice(key, 1);
  else if (gone) delete copy[key];
  else copy[key] = inner;
  return copy;
}

/** Every leaf as `[path, value]`; lists are leaves. */
export function leaves(value, path = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, path ? `${path}.${key}` : key));
}
