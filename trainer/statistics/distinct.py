"""How many different right answers k samples hold: what a mode that explores is for.

Of n graded samples of an item, of which c_a give the right answer a, the expected number of different right
answers among k drawn without return is sum_a [1 - C(n - c_a, k) / C(n, k)]: the estimator of pass@k (Chen et
al., arXiv 2107.03374, section 2.1) once for each answer, so without bias as well.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from trainer.statistics.pass_at_k import mixture_pass_at_k, pass_at_k


def right_answers(answers: Sequence[Hashable | None], correct: Sequence[bool]) -> Counter[Hashable]:
    """How many correct samples gave each answer; correct ones without an answer count as one answer."""
    return Counter(answer for answer, right in zip(answers, correct, strict=True) if right)


def distinct_right_at_k(n: int, counts: Collection[int], k: int) -> float:
    """sum_a 1 - C(n - c_a, k) / C(n, k), from ``counts`` of each right answer among ``n`` samples.

    Raises ValueError unless 0 <= k <= n and 0 <= c_a <= n.
    """
    return sum(pass_at_k(n, count, k) for count in counts)


def mixture_distinct_right_at_k(
    normal: tuple[int, Counter[Hashable]], high: tuple[int, Counter[Hashable]], k: int
) -> float:
    """The same of k draws, half from each mode; each mode's n and its right answers; k even."""
    return sum(
        mixture_pass_at_k((normal[0], normal[1][answer]), (high[0], high[1][answer]), k)
        for answer in normal[1].keys() | high[1].keys()
    )
