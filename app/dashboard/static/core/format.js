// Numbers, times and names as people read them.

const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** A number with `digits` significant digits: 0.884, 12.3, 1,204, 2.4e-5. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e7 || size < 1e-4) return value.toExponential(Math.max(0, digits - 1)).replace("e+", "e");
  if (size >= 1000) return GROUPED.format(value);
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(decimals, 6));
}

/** A number of things: 1,204. */
export function count(value) {
  return value === null || value === undefined ? "–" : GROUPED.format(value);
}

/** 1.2M, 34k: for tight places. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${number(value / size, 3)}${unit}`;
  }
  return number(value, 3);
}

export function percent(value, digits = 2) {
  if (value > 0 && value < 1e-4) return "< 0.01\u00a0%";
  return value === null || value === undefined ? "–" : `${number(value * 100, digits)}\u00a0%`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${number(value / size, 3)} ${unit}`;
  }
  return `${value} B`;
}

/** Seconds as 4 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const all = Math.max(0, Math.round(seconds));
  const [d, h, m, s] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
  if (d) return h ? `${d} d ${h} h` : `${d} d`;
  if (h) return m ? `${h} h ${m} min` : `${h} h`;
  if (m) return s && m < 10 ? `${m} min ${s} s` : `${m} min`;
  return `${s} s`;
}

/** Unix seconds as "3 min ago". */
export function ago(at, now = Date.now() / 1000) {
  const seconds = now - at;
  if (seconds < 10) return "just now";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

/** Unix seconds as a local date and time. */
export function dateTime(at) {
  return new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** `one` or `many` with its number: 1 answer, 3 answers. */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}
