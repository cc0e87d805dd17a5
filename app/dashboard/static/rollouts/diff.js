// What two texts share and where they part, word by word.

const MOST = 1500; // words of each; the table of a longer comparison would not fit in memory

/** `[{text, in: "both" | "a" | "b"}]`: the longest common sequence of words, and the rest around it. */
export function diff(a, b) {
  const [x, y] = [words(a), words(b)];
  const rows = x.length + 1;
  const columns = y.length + 1;
  const lengths = new Uint16Array(rows * columns);
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      lengths[i * columns + j] =
        x[i] === y[j] ? lengths[(i + 1) * columns + j + 1] + 1 : Math.max(lengths[(i + 1) * columns + j], lengths[i * columns + j + 1]);
    }
  }
  const parts = [];
  const push = (text, where) => {
    if (parts.at(-1)?.in === where) parts.at(-1).text += text;
    else parts.push({ text, in: where });
  };
  let i = 0;
  let j = 0;
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      push(x[i++], "both");
      j++;
    } else if (j === y.length || (i < x.length && lengths[(i + 1) * columns + j] >= lengths[i * columns + j + 1])) push(x[i++], "a");
    else push(y[j++], "b");
  }
  return parts;
}

/** Words with the white space that follows them. */
function words(text) {
  const all = text.match(/\s+|\S+\s*/g) ?? [];
  return all.length > MOST ? [...all.slice(0, MOST), "…"] : all;
}
