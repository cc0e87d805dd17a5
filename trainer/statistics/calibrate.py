"""``python -m trainer.statistics.calibrate``: how often a report's verdicts are wrong, and how often right.

Whole reports are simulated: a method and 13 baselines on two tasks, every arm as good as every other unless a
table says otherwise, an item's score a share of 4 answers. A seed moves all answers of an arm; "arm × item"
lets arms be good at different items. Two rules judge the same experiments:

- *before*: the strongest baseline on the dev items is met with the same seeds; a winner has Holm's p of the
  sign-flip test over items at most 0.05 and a bootstrap interval without zero; claims and comparisons with
  the other arms are two families of 0.05 each;
- *after*: ``claims``, ``comparison`` and ``crossed``, as reports are made.

Beside them the simpler test with S - 1 degrees of freedom for everything (``crossed.pooled_p``).
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from trainer.statistics.calibration_rules import Verdicts, after, before, pooled
from trainer.statistics.crossed import mean_squares
from trainer.statistics.power import ALPHA, design_of
from trainer.statistics.simulated import BASELINES, TASKS, Cell, experiments

EXPERIMENTS, QUICK = 1000, 40


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.statistics.calibrate", description=__doc__)
    parser.add_argument("--experiments", type=int, help=f"simulated reports a cell (default: {EXPERIMENTS})")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--quick", action="store_true", help=f"few cells, {QUICK} reports each")
    options = parser.parse_args(arguments)
    number = options.experiments or (QUICK if options.quick else EXPERIMENTS)
    for lines in (errors, partial_errors, power, detected):
        for line in lines(number, options.seed, options.quick):
            print(line, flush=True)
        print()
    return 0


def cells(quick: bool) -> Iterator[Cell]:
    """Of the error table: all arms alike."""
    seeds, items = ((3, 5), (32,)) if quick else ((3, 5, 10), (32, 96))
    deviations = (0.0, 0.15) if quick else (0.0, 0.03, 0.06, 0.15)
    for s, i, interaction, deviation in product(seeds, items, (0.0, 0.15), deviations):
        yield Cell(s, i, deviation, interaction)


@dataclass(frozen=True)
class Errors:
    """Of one cell, all arms alike: shares of reports, and of comparisons."""

    cell: Cell
    before_claim: float
    before_any: float
    pooled_any: float
    after_claim: float
    after_any: float
    before_covered: float
    pooled_covered: float
    after_covered: float
    before_bias: float
    after_bias: float


def error_of(cell: Cell, number: int, seed: int) -> Errors:
    """Judge ``number`` simulated reports of the cell by all rules."""
    old: list[Verdicts] = []
    new: list[Verdicts] = []
    simple: list[Verdicts] = []
    bias: list[float] = []
    for experiment in experiments(cell, number, seed):
        old.append(before(experiment))
        new.append(after(experiment))
        simple.append(pooled(experiment))
        bias.append(float(experiment.squares.mean.mean()))
    a, b, c = (Verdicts.together(one) for one in (old, new, simple))
    return Errors(
        cell=cell,
        before_claim=a.claim.any(axis=1).mean(),
        before_any=a.any_named.mean(),
        pooled_any=c.any_named.mean(),
        after_claim=b.claim.any(axis=1).mean(),
        after_any=b.any_named.mean(),
        before_covered=a.covered.mean(),
        pooled_covered=c.covered.mean(),
        after_covered=b.covered.mean(),
        before_bias=float(a.claim_delta.mean()),
        after_bias=float(np.mean(bias)),
    )


def errors(number: int, seed: int, quick: bool) -> Iterator[str]:
    """All arms alike: every winner or loser that is named is a false one."""
    yield from [
        f"All arms alike, {BASELINES} baselines on {TASKS} tasks, {number:,} reports a cell (standard error "
        f"of 5 %: {_standard_error(number):.1%}): reports that name any winner or loser (in brackets: by the "
        "claim alone); coverage of the 95 % interval of one comparison; bias of the Δ that the claim shows "
        "before (strongest baseline on dev), and of all Δ after.\n",
        "| seeds | items | arm × item | seed sd of Δ | before | S − 1 | after | coverage before | S − 1 "
        "| after | bias before | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells(quick):
        one = error_of(cell, number, seed)
        yield (
            f"{_named(cell)} | {one.before_any:.1%} ({one.before_claim:.1%}) | {one.pooled_any:.1%} "
            f"| {one.after_any:.1%} ({one.after_claim:.1%}) | {one.before_covered:.1%} "
            f"| {one.pooled_covered:.1%} | {one.after_covered:.1%} | {one.before_bias:+.3f} "
            f"| {one.after_bias:+.3f} |"
        )


def partial_errors(number: int, seed: int, quick: bool) -> Iterator[str]:
    """All baselines but one far worse than the method: what "beats every baseline" errs with at most."""
    yield from [
        "One baseline as good as the method, the others worse by 0.3: reports that name a winner or loser "
        "between these two, or claim that every baseline is beaten.\n",
        "| seeds | items | arm × item | seed sd of Δ | before | after |",
        "|---|---|---|---|---|---|",
    ]
    gaps = np.array([0.0] + [0.3] * (BASELINES - 1))
    for s, deviation in product((5,) if quick else (3, 5, 10), (0.15,) if quick else (0.0, 0.06, 0.15)):
        cell = Cell(s, 96, deviation, 0.0, gaps)
        old, new = (
            Verdicts.together([rule(one) for one in experiments(cell, number, seed)])
            for rule in (before, after)
        )
        rates = [((one.named[:, :, 0]).any(axis=1) | one.claim.any(axis=1)).mean() for one in (old, new)]
        yield (f"{_named(cell)} | {rates[0]:.1%} | {rates[1]:.1%} |")


def power(number: int, seed: int, quick: bool) -> Iterator[str]:
    """The method better than every baseline by the same difference."""
    yield from [
        "The method better than every baseline by Δ (a mean over what the items leave of it): chance that a "
        "comparison judged alone finds it, that the report names the method against a given arm, that the "
        "claim is made on a given task; and the winner's curse, how much larger Δ is on average where it "
        "was found alone.\n",
        "| seeds | items | arm × item | seed sd of Δ | Δ | alone before | S − 1 | after | arm before | after "
        "| claim before | after | curse before | after |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    designs = ((5, 96),) if quick else ((3, 96), (5, 32), (5, 96), (10, 96))
    for (s, i), deviation, effect in product(designs, (0.03,) if quick else (0.03, 0.06), (0.05, 0.1, 0.2)):
        cell = Cell(s, i, deviation, 0.15, np.full(BASELINES, effect))
        old: list[Verdicts] = []
        new: list[Verdicts] = []
        simple: list[Verdicts] = []
        true: list[float] = []
        for one in experiments(cell, number, seed):
            old.append(before(one))
            new.append(after(one))
            simple.append(pooled(one))
            true.append(one.true_delta)
        a, b, c = (Verdicts.together(one) for one in (old, new, simple))
        delta = float(np.mean(true))
        curses = [f"{one.delta[one.alone].mean() / delta:.2f}" if one.alone.any() else "–" for one in (a, b)]
        yield (
            f"{_named(cell)} | {delta:.3f} "
            f"| {a.alone.mean():.0%} | {c.alone.mean():.0%} | {b.alone.mean():.0%} "
            f"| {a.named.mean():.0%} | {b.named.mean():.0%} | {a.claim.mean():.0%} | {b.claim.mean():.0%} "
            f"| {' | '.join(curses)} |"
        )


def detected(number: int, seed: int, quick: bool) -> Iterator[str]:
    """A difference of the median detectable size, added to tables without one."""
    yield from [
        "Detectable Δ: how often a difference of the size that half of the experiments call detectable at "
        "80 % is found.\n",
        "| seeds | items | of seeds : of items : rest | found |",
        "|---|---|---|---|",
    ]
    for (s, i), (of_seeds, of_items) in product(
        ((5, 60),) if quick else ((3, 60), (5, 60), (10, 60)), ((0.3, 0.3), (0.3, 1.0), (1.0, 0.3))
    ):
        found = detection(s, i, of_seeds, of_items, number, seed)
        yield (f"| {s} | {i} | {of_seeds} : {of_items} : 1 | {found:.0%} |")


def detection(seeds: int, items: int, of_seeds: float, of_items: float, number: int, seed: int) -> float:
    """The share of experiments that find the median detectable difference; deviations beside a rest of 1."""
    random = np.random.default_rng([seed, seeds, items])
    noise_ESI = (
        of_seeds * random.normal(size=(number, seeds, 1))
        + of_items * random.normal(size=(number, 1, items))
        + random.normal(size=(number, seeds, items))
    )
    squares = mean_squares(noise_ESI)
    sizes = [design_of(squares[n]).detectable() for n in range(min(number, 200))]
    found = np.abs(squares.mean + np.median(sizes)) > squares.half_width(ALPHA)
    return float(found.mean())


def _named(cell: Cell) -> str:
    interaction = "yes" if cell.interaction else "no"
    return f"| {cell.seeds} | {cell.items} | {interaction} | {cell.seed_deviation:g}"


def _standard_error(number: int) -> float:
    return float(np.sqrt(ALPHA * (1 - ALPHA) / number))


if __name__ == "__main__":
    sys.exit(main())
