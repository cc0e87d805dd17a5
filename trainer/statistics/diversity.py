"""How different the responses to one item are from each other, and how much one repeats itself.

A response is a sequence of tokens of any hashable kind; the trainer passes token ids without the end.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import median_low
from typing import TypeVar

Tokens = Sequence[Hashable]
Token = TypeVar("Token", bound=Hashable)

#: Put in place of a count of zero, so that one missing order does not make the whole score zero
#: (smoothing 1 of Chen and Cherry, 2014).
SMOOTHING = 0.1


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[Hashable, ...]]:
    """How often each run of ``order`` tokens occurs."""
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def distinct_n(responses: Sequence[Tokens], order: int) -> float | None:
    """Different n-grams as a share of all n-grams of the responses together (Li et al., arXiv 1510.03055).

    None where there is no n-gram.
    """
    together: Counter[tuple[Hashable, ...]] = Counter()
    for response in responses:
        together.update(ngrams(response, order))
    return len(together) / together.total() if together else None


def bleu(hypothesis: Tokens, references: Sequence[Tokens], max_order: int = 4) -> float:
    """BLEU (Papineni et al., 2002) of one text: clipped n-gram precision, geometric mean, brevity penalty.

    Orders beyond the hypothesis's length are left out. An empty hypothesis equals an empty reference (1) and
    shares nothing with another (0).
    """
    matches: list[int] = []
    for order in range(1, min(max_order, len(hypothesis)) + 1):
        allowed: Counter[tuple[Hashable, ...]] = Counter()
        for reference in references:
            allowed |= ngrams(reference, order)
        matches.append((ngrams(hypothesis, order) & allowed).total())
    return _bleu(matches, len(hypothesis), [len(reference) for reference in references])


def _bleu(matches: Sequence[int], length: int, reference_lengths: Sequence[int]) -> float:
    """BLEU of a text of ``length`` tokens, of whose n-grams of order 1, 2 … so many are in a reference."""
    if not matches:
        return float(0 in reference_lengths)
    log_precision = 0.0
    for order, count in enumerate(matches, start=1):
        log_precision += math.log(max(count, SMOOTHING) / (length - order + 1)) / len(matches)
    closest = min(reference_lengths, key=lambda n: (abs(n - length), n))
    brevity = 1.0 if length >= closest else math.exp(1.0 - closest / length)
    return brevity * math.exp(log_precision)


def self_bleu_diversity(responses: Sequence[Tokens], max_order: int = 4) -> float | None:
    """1 - mean self-BLEU (Zhu et al., arXiv 1802.01886): each response against all the others as references.

    0 when all are the same, towards 1 when they share nothing; None for fewer than two responses.
    """
    if len(responses) < 2:
        return None
    by_order = [_matches_with_others(responses, order) for order in range(1, max_order + 1)]
    lengths = [len(response) for response in responses]
    scores = [
        _bleu([of[i] for of in by_order[:length]], length, lengths[:i] + lengths[i + 1 :])
        for i, length in enumerate(lengths)
    ]
    return 1.0 - sum(scores) / len(scores)


def _matches_with_others(responses: Sequence[Tokens], order: int) -> list[int]:
    """Of each response, how many of its n-grams another has as often: each response is counted once."""
    counts = [ngrams(response, order) for response in responses]
    # Of each n-gram, how often the response with the most has it, and the one with the second most.
    most: dict[tuple[Hashable, ...], tuple[int, int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = most.get(gram, (0, 0))
            most[gram] = (count, first) if count > first else (first, max(count, second))
    # Who has the most is matched by the second most; whoever has fewer, by the first: by all that it has.
    return [
        sum(min(count, most[gram][count == most[gram][0]]) for gram, count in own.items()) for own in counts
    ]


def embedding_diversity(vectors: Sequence[Sequence[float]]) -> float | None:
    """1 - mean cosine over all pairs of vectors, one a response; None for fewer than two.

    0 when all are the same, 1 when each is orthogonal to all others. Of n unit vectors that sum to s, the
    cosines of the pairs sum to (|s|^2 - n) / 2.
    """
    n = len(vectors)
    if n < 2:
        return None
    unit = [[value / math.hypot(*vector) for value in vector] for vector in vectors]
    square = math.fsum(math.fsum(axis) ** 2 for axis in zip(*unit, strict=True))
    return 1.0 - (square - n) / (n * (n - 1))


def repetition(response: Tokens, order: int = 4) -> float | None:
    """Share of a response's n-grams that occurred in it before; None where it is shorter than one."""
    share = distinct_n([response], order)
    return None if share is None else 1.0 - share


def matched(*sets: Sequence[Sequence[Token]]) -> tuple[list[Sequence[Token]], ...]:
    """Equally many responses of exactly the same length from each set: what diversity can be compared on.

    The length is the smallest of the sets' (lower) median lengths; longer responses are cut to it, shorter
    ones left out; of those that remain, each set keeps the first as many as the smallest has. So every set
    is represented by at least half of the responses of the set with the fewest. Empty where a set is.
    """
    if not all(sets):
        return tuple([] for _ in sets)
    length = min(median_low([len(response) for response in one]) for one in sets)
    cut = [[response[:length] for response in one if len(response) >= length] for one in sets]
    count = min(map(len, cut))
    return tuple(one[:count] for one in cut)
