// In which order groups and their responses are shown. Pure: rows in, rows out.

const graded = (rows) => rows.map((row) => row.reward).filter((reward) => reward !== null);
const mean = (list) => (list.length ? list.reduce((sum, one) => sum + one, 0) / list.length : null);

/** Of a prompt's responses: how far apart the modes' mean rewards are; null where one has none. */
export function disagreement(rows) {
  const [n, h] = ["normal", "high-entropy"].map((mode) => mean(graded(rows.filter((row) => row.mode === mode))));
  return n === null || h === null ? null : Math.abs(n - h);
}

/** `[value of a response, value of a group]`; those with the largest come first, those without any last. */
const ORDERS = {
  surprise: [(row) => row.surprisal, largest((row) => row.surprisal)],
  reward: [(row) => row.reward, (rows) => mean(graded(rows))],
  entropy: [(row) => row.entropy, (rows) => mean(rows.map((row) => row.entropy).filter((one) => one !== null))],
  length: [(row) => row.tokens, largest((row) => row.tokens)],
  disagreement: [null, disagreement],
};

/** By name, with what people call them. */
export const ORDER_NAMES = [
  ["surprise", "Most surprising"],
  ["reward", "Highest reward"],
  ["lowest", "Lowest reward"],
  ["entropy", "Highest entropy"],
  ["length", "Longest"],
  ["disagreement", "Modes disagree most"],
  ["drawn", "As drawn"],
];

/** `[{key, rows}]` in the order called `name`, and so the rows of each; rows that no order knows stay as drawn. */
export function ordered(groups, name) {
  const lowest = name === "lowest";
  const found = ORDERS[lowest ? "reward" : name];
  if (!found) return groups;
  const [ofRow, ofGroup] = found;
  const sign = lowest ? 1 : -1;
  const rows = (list) => (ofRow ? byValue(list, ofRow, sign) : list);
  return byValue(groups, (group) => ofGroup(group.rows), sign).map((group) => ({ ...group, rows: rows(group.rows) }));
}

function largest(value) {
  return (rows) => {
    const known = rows.map(value).filter((one) => one !== null);
    return known.length ? Math.max(...known) : null;
  };
}

function byValue(list, value, sign) {
  const [known, unknown] = [[], []];
  for (const one of list) (value(one) === null ? unknown : known).push(one);
  return [...known.sort((a, b) => sign * (value(a) - value(b))), ...unknown];
}
