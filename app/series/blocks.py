"""Points of one series, as arrays, and packed: 240 steps of a series are one row of ``metric_blocks``.

A row of its own costs a point 20 bytes on SQLite and 84 on PostgreSQL, in a block it costs 9; and a curve of
100,000 steps is read as 417 rows.
"""

from typing import NamedTuple

import numpy as np

#: So many values are one row that PostgreSQL keeps in its page, and two that SQLite does.
BLOCK_STEPS = 240
_OFFSET, _VALUE = np.dtype(np.uint8), np.dtype("<f8")


class Curve(NamedTuple):
    """Points of a series: ``steps`` (int64, rising) and ``values`` (float64), both ``[points]``."""

    steps: np.ndarray
    values: np.ndarray

    def between(self, first: int, last: int) -> "Curve":
        """The points from step ``first`` to ``last``."""
        start, stop = np.searchsorted(self.steps, [first, last + 1])
        return Curve(self.steps[start:stop], self.values[start:stop])

    def pairs(self) -> list[tuple[int, float]]:
        """(step, value), as Python's numbers."""
        return list(zip(self.steps.tolist(), self.values.tolist(), strict=True))


EMPTY = Curve(np.empty(0, np.int64), np.empty(0, _VALUE))


def merged(older: Curve, newer: Curve) -> Curve:
    """The points of both; where both have a step, those of ``newer``."""
    if not len(older.steps) or not len(newer.steps):
        return newer if len(newer.steps) else older
    steps, first = np.unique(np.concatenate([newer.steps, older.steps]), return_index=True)
    return Curve(steps, np.concatenate([newer.values, older.values])[first])


def pack(curve: Curve) -> bytes:
    """The points of one block: which steps it has, where some are missing, a byte each, and the values."""
    values = curve.values.astype(_VALUE).tobytes()
    if len(curve.steps) == BLOCK_STEPS:
        return values
    return (curve.steps % BLOCK_STEPS).astype(_OFFSET).tobytes() + values


def unpack(number: int, packed: bytes) -> Curve:
    """The points of block ``number``, steps from ``number * BLOCK_STEPS``."""
    if len(packed) == BLOCK_STEPS * _VALUE.itemsize:
        offsets = np.arange(BLOCK_STEPS)
    else:
        # No number of points has as many bytes in this form as a whole block has in the other.
        offsets = np.frombuffer(packed, _OFFSET, count=len(packed) // (1 + _VALUE.itemsize))
    values = np.frombuffer(packed, _VALUE, offset=len(packed) - len(offsets) * _VALUE.itemsize)
    return Curve(number * BLOCK_STEPS + offsets.astype(np.int64), values)
