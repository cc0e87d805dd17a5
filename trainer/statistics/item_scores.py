"""The number of each item that a metric makes of its outcomes."""

import math

import numpy as np

from trainer.statistics.outcomes import ModeOutcomes, Outcomes, ScoredMode
from trainer.statistics.pass_at_k import mixture_pass_at_k, pass_at_k, powers_of_two


def metric_k(metric: str) -> int | None:
    """The k of ``pass@k``; None for ``accuracy`` and ``reward``. Raises ValueError for what is no metric."""
    if metric in ("accuracy", "reward"):
        return None
    name, _, k = metric.partition("@")
    if name != "pass" or not k.isdecimal() or not 1 <= int(k) <= 1024:
        raise ValueError(f"{metric!r} is no metric: give accuracy, reward, or pass@K with K from 1 to 1024")
    return int(k)


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
    return np.array([_mixture(n, h, k) for n, h in zip(*map(_pairs, outcomes.values()), strict=True)])


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


def _of_mode(of_mode: ModeOutcomes, metric: str, k: int | None) -> np.ndarray:
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
