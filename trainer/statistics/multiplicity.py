"""Several tests at once: the chance that any of them errs."""

from collections.abc import Sequence


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's method (1979), in the order given.

    The i-th smallest of m, from 0, is multiplied by m - i; none becomes smaller than one before it, or larger
    than 1. Rejecting where the result is at most a keeps the chance of any false rejection at a or below,
    whatever the tests have to do with each other.
    """
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected
