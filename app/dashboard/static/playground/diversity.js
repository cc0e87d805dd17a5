// How different several answers are, and which are equal. Pure: texts in, numbers out.

/** `{distinct, bigrams, overlap}`: answers that differ, share of bigrams that are unique, mean shared words (0–1). */
export function diversity(texts) {
  const lists = texts.map((text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const distinct = folded(texts).length;
  const bigrams = lists.flatMap((words) => words.slice(1).map((word, i) => `${words[i]} ${word}`));
  let pairs = 0;
  let shared = 0;
  for (let i = 0; i < lists.length; i++) {
    for (let j = i + 1; j < lists.length; j++) {
      shared += jaccard(new Set(lists[i]), new Set(lists[j]));
      pairs++;
    }
  }
  return {
    distinct,
    bigrams: bigrams.length ? new Set(bigrams).size / bigrams.length : null,
    overlap: pairs ? shared / pairs : null,
  };
}

/** `[[text, count]]`: each answer once, where it first came. Answers that differ in white space alone are equal. */
export function folded(texts) {
  const counts = new Map();
  for (const text of texts) {
    const key = text.trim().replace(/\s+/g, " ");
    const [first, count] = counts.get(key) ?? [text, 0];
    counts.set(key, [first, count + 1]);
  }
  return [...counts.values()];
}

function jaccard(a, b) {
  const union = new Set([...a, ...b]).size;
  if (!union) return 1;
  return [...a].filter((word) => b.has(word)).length / union;
}
