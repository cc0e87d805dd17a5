"""The number of each item that a metric makes of its outcomes."""

import math
import re
from collections import Counter
from collections.abc import Hashable

import numpy as np

from trainer.statistics.distinct import distinct_right_at_k, mixture_distinct_right_at_k
from trainer.statistics.outcomes import ModeOutcomes, Outcomes, ScoredMode
from trainer.statistics.pass_at_k import mixture_pass_at_k, pass_at_k, powers_of_two
from trainer.statistics.ranges import SHARE, UNBOUNDED, Bounds

_AT_K = re.compile(r"(pass|distinct_right)@(\d{1,4})")


def metric_k(metric: str) -> int | None:
    """The k of ``pass@k`` and ``distinct_right@k``; None for ``accuracy`` and ``reward``.

    ValueError for what is not a metric.
    """
    if metric in ("accuracy", "reward"):
        return None
    found = _AT_K.fullmatch(metric)
    if found is None or not 1 <= int(found[2]) <= 1024:
        raise ValueError(
            f"{metric!r} is not a metric: give accuracy, reward, pass@K or distinct_right@K with K from 1 "
            "to 1024"
        )
    return int(found[2])


def counts_answers(metric: str) -> bool:
    """Whether the metric is of different right answers, which not every grader can tell."""
    return metric.startswith("distinct_right@")


def metric_bounds(metric: str) -> Bounds:
    """What a mean of the metric cannot leave: 0 and 1 for shares, 0 and k for answers; a reward has none."""
    if counts_answers(metric):
        return 0.0, float(metric_k(metric) or 0)
    return UNBOUNDED if metric == "reward" else SHARE


def item_values(outcomes: Outcomes, metric: str, mode: ScoredMode) -> np.ndarray:
    """The metric of each item; NaN where it cannot be told (nothing graded, fewer samples than k).

    A run of one mode has that mode's value whatever ``mode`` is: the mixture of a model that has one
    distribution, with as many samples, is that distribution.
    """
    k = metric_k(metric)
    if len(outcomes) == 1:
        (only,) = outcomes.values()
        return _of_mode(only, metric, k)
    if mode != "mix":
        return _of_mode(outcomes[mode], metric, k)
    if k is None:
        return (_of_mode(outcomes["N"], metric, k) + _of_mode(outcomes["H"], metric, k)) / 2
    normal, high = outcomes["N"], outcomes["H"]
    if counts_answers(metric):
        both = zip(_answers(normal), _answers(high), strict=True)
        return np.array([_mixed_answers(n, h, k) for n, h in both], dtype=float)
    return np.array([_mixture(n, h, k) for n, h in zip(_pairs(normal), _pairs(high), strict=True)])


def shared_ks(outcomes: Outcomes, mode: ScoredMode) -> list[int]:
    """The powers of two for which ``mode`` has pass@k on every item with graded responses."""
    fewest = [min((n for n in one.graded if n), default=0) for one in outcomes.values()]
    if not fewest or min(fewest) == 0:
        return []
    if len(outcomes) == 2 and mode == "mix":
        return [2 * k for k in powers_of_two(min(fewest))]
    return powers_of_two(min(fewest))


def _pairs(of_mode: ModeOutcomes) -> list[tuple[int, int]]:
    return list(zip(of_mode.graded, of_mode.correct, strict=True))


def _answers(of_mode: ModeOutcomes) -> list[tuple[int, list[int] | None]]:
    """Of each item the graded responses, and the counts of its right answers where they are known."""
    counts: list[list[int]] | list[None] = of_mode.right_answers or [None] * len(of_mode.graded)
    return list(zip(of_mode.graded, counts, strict=True))


def _of_mode(of_mode: ModeOutcomes, metric: str, k: int | None) -> np.ndarray:
    if k is not None and counts_answers(metric):
        return np.array(
            [
                math.nan if counts is None or n < k else distinct_right_at_k(n, counts, k)
                for n, counts in _answers(of_mode)
            ],
            dtype=float,
        )
    if metric == "reward":
        return np.array([math.nan if value is None else value for value in of_mode.reward], dtype=float)
    least = k or 1
    return np.array(
        [math.nan if n < least else (c / n if k is None else pass_at_k(n, c, k)) for n, c in _pairs(of_mode)],
        dtype=float,
    )


def _mixture(normal: tuple[int, int], high: tuple[int, int], k: int) -> float:
    if k % 2 or min(normal[0], high[0]) < k // 2:
        return math.nan
    return mixture_pass_at_k(normal, high, k)


def _mixed_answers(normal: tuple[int, list[int] | None], high: tuple[int, list[int] | None], k: int) -> float:
    if normal[1] is None or high[1] is None or k % 2 or min(normal[0], high[0]) < k // 2:
        return math.nan
    first, second = ((n, Counter[Hashable](dict(enumerate(counts or ())))) for n, counts in (normal, high))
    return mixture_distinct_right_at_k(first, second, k)
