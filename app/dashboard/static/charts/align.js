// Series with steps of their own, put on one axis; smoothing; stacking. Numbers in, numbers out.

/** `[{steps, values}]` to `[steps, values, values, …]`, null where a series has no point at a step. */
export function align(series) {
  if (series.length === 0) return [[]];
  const [first] = series;
  if (series.every((one) => sameSteps(one.steps, first.steps))) return [first.steps, ...series.map((one) => one.values)];
  const steps = union(series.map((one) => one.steps));
  return [steps, ...series.map((one) => spread(one, steps))];
}

function sameSteps(a, b) {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function union(lists) {
  const all = new Float64Array(lists.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of lists) {
    all.set(list, at);
    at += list.length;
  }
  all.sort();
  const steps = [];
  for (let i = 0; i < all.length; i++) if (i === 0 || all[i] !== all[i - 1]) steps.push(all[i]);
  return steps;
}

function spread({ steps, values }, onto) {
  const out = new Array(onto.length);
  for (let i = 0, j = 0; i < onto.length; i++) out[i] = steps[j] === onto[i] ? values[j++] : null;
  return out;
}

/**
 * An exponential mean over the past, `reach` steps long, whatever the distance between the points. Early
 * values are not drawn towards zero. Gaps stay gaps.
 */
export function smooth(steps, values, reach) {
  if (!reach) return values;
  const out = new Array(values.length);
  let mean = 0;
  let weight = 0;
  let before = null;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value === null) {
      out[i] = null;
      continue;
    }
    const keep = before === null ? 0 : Math.exp(-(steps[i] - before) / reach);
    mean = mean * keep + value * (1 - keep);
    weight = weight * keep + (1 - keep);
    out[i] = mean / weight;
    before = steps[i];
  }
  return out;
}

/** Each list plus all that follow it, so that the first is the top of the stack. Gaps count as nothing. */
export function stack(lists) {
  const out = lists.map((list) => new Array(list.length));
  for (let i = 0; i < (lists[0]?.length ?? 0); i++) {
    let sum = 0;
    for (let k = lists.length - 1; k >= 0; k--) out[k][i] = sum += lists[k][i] ?? 0;
  }
  return out;
}

/** The place of the last value that is there, or -1. */
export function lastIndex(values) {
  for (let i = values.length - 1; i >= 0; i--) if (!missing(values[i])) return i;
  return -1;
}

/** The place of the value nearest to `index` by its step; -1 before the first value and after the last. */
export function nearestIndex(steps, values, index) {
  let [before, after] = [index, index];
  while (before >= 0 && missing(values[before])) before--;
  while (after < values.length && missing(values[after])) after++;
  if (before < 0 || after === values.length) return -1;
  return steps[index] - steps[before] <= steps[after] - steps[index] ? before : after;
}

const missing = (value) => value === null || value === undefined;
