"""Is a paired difference more than chance? Without it, the sign of each item's difference is a coin."""

from collections.abc import Iterator

import numpy as np

DRAWS = 10_000
#: Signs that are held at a time: of 10,000 draws on 100,000 items there are as many as no memory has.
_HELD = 4_000_000
#: Two means within this of each other, relative to the larger, count as equal: sums differ by rounding.
_EQUAL = 1e-9


def sign_flip_p(differences_I: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> float:
    """Two-sided p of the mean of ``differences_I`` (items,) under random signs, p = (1 + #>=) / (1 + draws).

    Where there are no more sign patterns than draws, all are counted instead and p is exact.

    The items' true differences are taken as they are: the test asks whether *these trained models* differ on
    items like these. Whether other seeds would say the same is another question (``crossed``).
    """
    return float(sign_flip_ps(np.asarray(differences_I, dtype=float)[None], seed=seed, draws=draws)[0])


def sign_flip_ps(differences_EI: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """:func:`sign_flip_p` of several experiments (E, items) at once, under the same draws of signs; (E,)."""
    differences_EI = np.asarray(differences_EI, dtype=float)
    items = differences_EI.shape[1]
    observed_E = np.abs(differences_EI.mean(axis=1))
    exact = 2**items <= draws if items < 62 else False
    parts = [_every_pattern(items)] if exact else _random_signs(seed, draws, items)
    reached_E = np.zeros(len(differences_EI), dtype=int)
    for signs_BI in parts:
        flipped_EB = np.abs(differences_EI @ signs_BI.T) / items
        reached_E += (flipped_EB >= observed_E[:, None] * (1 - _EQUAL)).sum(axis=1)
    return reached_E / 2**items if exact else (1 + reached_E) / (1 + draws)


def _every_pattern(items: int) -> np.ndarray:
    """All 2^items patterns of signs."""
    bits = (np.arange(1 << items)[:, None] >> np.arange(items)) & 1
    return 1.0 - 2.0 * bits


def _random_signs(seed: int, draws: int, items: int) -> Iterator[np.ndarray]:
    """Patterns of signs (some, items), as many as there are draws: the same, however they are divided."""
    random, left = np.random.default_rng(seed), draws
    while left:
        some = min(left, max(1, _HELD // items))
        yield random.integers(0, 2, size=(some, items)) * 2.0 - 1.0
        left -= some
