"""Several tests at once: the chance that any of them errs."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Corrected:
    """A test after Holm's correction: its p, and the alpha of the interval that says the same as p."""

    p: float
    alpha: float


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's method (1979), in the order given.

    The i-th smallest of m, from 0, is multiplied by m - i; none becomes smaller than one before it, or larger
    than 1. Rejecting where the result is at most a keeps the chance of any false rejection at a or below,
    whatever the tests have to do with each other.
    """
    return [one.p for one in corrected(ps, 0.05)]


def corrected(
    ps: Sequence[float], alpha: float, hypotheses: Sequence[Hashable] | None = None
) -> list[Corrected]:
    """Holm's correction with the intervals that belong to it.

    A rejected test's interval, at a chance of 1 - alpha / (m - i), excludes zero; so do none of the others',
    at a chance of 1 - alpha / (m - r) with r the number of rejected ones: they read as the verdict does.

    Args:
        alpha: what the family as a whole may err with.
        hypotheses: by test, which hypothesis it is of. Tests of one hypothesis have one p and count once.
    """
    keys = list(range(len(ps))) if hypotheses is None else list(hypotheses)
    order = sorted(dict(zip(keys, ps, strict=True)).items(), key=lambda one: one[1])
    found: dict[Hashable, Corrected] = {}
    highest, rejected = 0.0, 0
    for rank, (key, p) in enumerate(order):
        left = len(order) - rank
        highest = max(highest, min(1.0, left * p))
        if highest <= alpha:
            rejected = rank + 1
            found[key] = Corrected(highest, alpha / left)
        else:
            found[key] = Corrected(highest, alpha / (len(order) - rejected))
    return [found[key] for key in keys]
