"""Rows, the unit of training, and how they are put into micro-batches.

A row is what the model reads (context), what follows (continuation), and which tokens of that are trained.
Everything that trains is made of rows: a response under a mode's prompt, a conversation with its assistant's
turns trained, either side of a preference pair. ``trainer.model.scoring.score_rows`` gives their
log-probabilities; ``micro_batches`` divides them, so that no forward pass has more positions than it may.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trainer.model.packing import Layout

U = TypeVar("U")

LARGEST_MICRO_BATCH_TOKENS = 16384
"""Positions of the largest micro-batch, unless a run says otherwise: a group of more takes two passes."""

ONE_RECTANGLE = 1024
"""Positions up to which rows are padded to the longest, however unequal they are: so few cost little."""


@dataclass(frozen=True, eq=False)
class Row:
    """Exact token ids, never decoded or tokenised again.

    In a micro-batch of the shared-prefix layout rows that hold the same context object share it: it is
    computed once.
    """

    context_ids: Sequence[int]
    """What comes before, one token at least: it predicts the continuation's first."""
    response_ids: Sequence[int]
    """What follows: one response, or the rest of a conversation, with what others say in it."""
    trained: Sequence[bool] | None = None
    """By token of ``response_ids``: whether it is trained. The others are read alone (a tool's result, a
    user's turn): they are context of what follows them and have no scores. None: all are trained."""

    @property
    def trained_tokens(self) -> int:
        """How many tokens of it have scores."""
        return len(self.response_ids) if self.trained is None else sum(self.trained)


def by_context(rows: Sequence[Row]) -> list[list[int]]:
    """Which of the rows hold the same context object, in the order of the first of each."""
    found: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(id(row.context_ids), []).append(number)
    return list(found.values())


def row_positions(rows: Sequence[Row], layout: Layout = "shared_prefix") -> int:
    """How many positions one forward pass over ``rows`` has, padding included."""
    size = _Size(layout)
    size.add(rows)
    return size.positions


def fits(rows: Sequence[Row], positions: int, layout: Layout = "shared_prefix") -> bool:
    """Whether ``rows`` may be a micro-batch: it has ``positions`` positions at most, and where rows are
    padded at most half of them are padding, or it is small."""
    size = _Size(layout)
    size.add(rows)
    return size.fits(positions)


def micro_batches(
    units: Sequence[U],
    rows: Callable[[U], Sequence[Row]],
    positions: int,
    layout: Layout = "shared_prefix",
    *,
    multiple_of: int = 1,
) -> list[list[U]]:
    """``units`` in runs that each ``fits``, as even as they can be, in their order.

    A unit (a row, a pair of them, a response under several prompts) is not divided: one that is larger is a
    micro-batch of its own. There are as few as possible, but a multiple of ``multiple_of``, with empty ones
    at the end where units are too few: rank r of so many takes ``found[r::multiple_of]``, as many as others.
    Where rows are padded, units of about one length go together, the longest first; within a micro-batch they
    are in their order.

    Args:
        rows: the rows of a unit.
        positions: the bound, as ``row_positions`` counts.
    """
    if not units:
        return []
    order = list(range(len(units)))
    of_units = [rows(unit) for unit in units]
    if layout == "per_row":
        order.sort(key=lambda number: -max(map(_length, of_units[number]), default=0))
        of_units = [of_units[number] for number in order]
    fewest = len(_ends(of_units, positions, layout))
    count = math.ceil(fewest / multiple_of) * multiple_of
    # The smallest bound that needs no more of them makes them even.
    low, high = 1, positions
    while low < high:
        middle = (low + high) // 2
        if len(_ends(of_units, middle, layout)) <= count:
            high = middle
        else:
            low = middle + 1
    ends = _ends(of_units, low, layout)
    runs = [
        [units[number] for number in sorted(order[start:end])]
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return runs + [[] for _ in range(count - len(runs))]


def _ends(of_units: Sequence[Sequence[Row]], positions: int, layout: Layout) -> list[int]:
    """Where runs end that take as many units as fit."""
    ends: list[int] = []
    size = _Size(layout)
    for number, of_unit in enumerate(of_units):
        if size.rows and not size.with_more(of_unit).fits(positions):
            ends.append(number)
            size = _Size(layout)
        size.add(of_unit)
    return [*ends, len(of_units)]


def _length(row: Row) -> int:
    return len(row.context_ids) + len(row.response_ids)


class _Size:
    """The positions of rows, counted as they come."""

    def __init__(self, layout: Layout):
        self._layout: Layout = layout
        self._sum = self._tokens = self._longest = self.rows = 0
        self._contexts: frozenset[int] = frozenset()

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if id(row.context_ids) not in self._contexts:
                self._sum += len(row.context_ids)
                self._contexts |= {id(row.context_ids)}
            self._sum += len(row.response_ids)
            self._tokens += _length(row)
            self._longest = max(self._longest, _length(row))
            self.rows += 1

    def with_more(self, rows: Sequence[Row]) -> "_Size":
        """After ``add(rows)``."""
        more = _Size(self._layout)
        more.__dict__.update(self.__dict__)
        more.add(rows)
        return more

    def fits(self, positions: int) -> bool:
        """As ``fits`` of the module."""
        unpadded = self._layout == "shared_prefix" or self.positions <= max(ONE_RECTANGLE, 2 * self._tokens)
        return self.positions <= positions and unpadded

    @property
    def positions(self) -> int:
        return self._sum if self._layout == "shared_prefix" else self.rows * self._longest
