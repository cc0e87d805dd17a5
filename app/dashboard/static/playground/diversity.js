// How different several answers are. Pure: texts in, numbers out.

/** `{distinct, bigrams, overlap}`: answers that differ, share of bigrams that are unique, mean shared words (0–1). */
export function diversity(texts) {
  const lists = texts.map((text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  const distinct = new Set(texts.map((text) => text.trim())).size;
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

function jaccard(a, b) {
  const union = new Set([...a, ...b]).size;
  if (!union) return 1;
  return [...a].filter((word) => b.has(word)).length / union;
}
