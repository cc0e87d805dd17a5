"""Majority voting (self-consistency, arXiv 2203.11171): is the most frequent answer right?"""

from collections import Counter
from collections.abc import Sequence


def majority_at_k(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """maj@k: the mean over consecutive blocks of k samples of whether the block's vote is correct.

    The blocks are disjoint, so the mean has no bias; samples that fill no block are left out.

    Args:
        answers: the answer of each sample; None where it gave none, which has no vote.
        correct: whether each was graded correct.
        k: from 1 to the number of samples; ValueError otherwise.
    """
    if not 1 <= k <= len(answers):
        raise ValueError(f"a vote of {k} among {len(answers)} samples")
    starts = range(0, len(answers) - k + 1, k)
    return sum(vote(answers[i : i + k], correct[i : i + k]) for i in starts) / len(starts)


def vote(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """The chance that the most frequent answer is correct, ties drawn evenly; 0 where nobody answered.

    Where the same answer was graded both ways (a grader that reads more than the answer), its share counts.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return 0.0
    most = max(counts.values())
    tied = [answer for answer, count in counts.items() if count == most]
    right = sum(c for answer, c in zip(answers, correct, strict=True) if answer in tied)
    return right / (most * len(tied))
