"""Simulated experiments whose truth is known: what the calibration of reports is made on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trainer.statistics.crossed import MeanSquares, mean_squares

BASELINES, TASKS, ANSWERS = 13, 2, 4
#: Scores that are held at a time.
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Cell:
    """A design and a truth: deviations of a difference between two arms, in accuracy."""

    seeds: int
    items: int
    seed_deviation: float
    #: Of an item's true difference: arms are good at different items.
    interaction: float
    #: How much worse than the method each baseline is.
    gaps: np.ndarray = field(default_factory=lambda: np.zeros(BASELINES))


@dataclass(frozen=True)
class Experiments:
    """Differences, method - baseline, on the test items: (experiments, tasks, baselines, seeds, items)."""

    differences: np.ndarray
    #: Each baseline's mean on the dev items: (experiments, tasks, baselines).
    dev: np.ndarray
    #: The mean of the true differences, what ranges cut off included.
    true_delta: float

    @cached_property
    def squares(self) -> MeanSquares:
        """Of all comparisons: (experiments, tasks, baselines)."""
        return mean_squares(self.differences)


def experiments(cell: Cell, number: int, seed: int) -> Iterator[Experiments]:
    """``number`` experiments, some at a time; the same for the same seed."""
    random = np.random.default_rng([seed, cell.seeds, cell.items])
    dev_items = cell.items // 3
    size = TASKS * (BASELINES + 1) * cell.seeds * (cell.items + dev_items)
    at_once = max(1, _CHUNK // size)
    for start in range(0, number, at_once):
        yield _experiments(cell, min(at_once, number - start), dev_items, random)


def _experiments(cell: Cell, number: int, dev_items: int, random: np.random.Generator) -> Experiments:
    items, arms = cell.items + dev_items, BASELINES + 1

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(2))

    gaps_A = np.concatenate([[0.0], cell.gaps]).astype(np.float32)
    chance = random.uniform(0.25, 0.75, size=(number, TASKS, 1, 1, items)).astype(np.float32)
    chance = chance - gaps_A[:, None, None]
    chance = chance + cell.interaction * normal(number, TASKS, arms, 1, items)
    chance = chance + cell.seed_deviation * normal(number, TASKS, arms, cell.seeds, 1)
    # A byte is below 256 p with a chance of p, rounded: far cheaper than a float, and the same for all arms.
    below = np.clip(np.rint(256 * chance), 0, 256).astype(np.uint16)
    correct = np.zeros(chance.shape, dtype=np.uint8)
    for _ in range(ANSWERS):
        correct += random.integers(0, 256, size=chance.shape, dtype=np.uint8) < below
    scores = correct.astype(np.float32) / np.float32(ANSWERS)
    test, dev = scores[..., dev_items:], scores[..., :dev_items]
    true = np.clip(chance[..., dev_items:], 0.0, 1.0).mean(axis=(0, 1, 3, 4))
    return Experiments(
        differences=test[:, :, :1] - test[:, :, 1:],
        dev=dev[:, :, 1:].mean(axis=(3, 4)),
        true_delta=float((true[0] - true[1:]).mean()),
    )
