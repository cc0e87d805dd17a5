"""The claim of an experiment, one a task: the first family of a report, judged before all other comparisons.

Two forms, and neither chooses a baseline by results:

- against one arm that was named beforehand (or the only baseline): a comparison as any other;
- else against every baseline: the method is better than the strongest one, whichever that is, where it beats
  each of them. This is an intersection-union test (Berger, Technometrics 24, 1982): it errs in at most alpha
  without a correction for the number of baselines. It claims nothing in the other direction, which the
  comparison with each arm does. A baseline that was picked by the seeds that it is then met with would bring
  its luck along.

The report errs in at most ``ALPHA`` as a whole: half of it is the claims', half all other comparisons'; where
there is only one of the two families, it has all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.statistics.comparison import Comparison, it_would_take, judged, verdict
from trainer.statistics.power import ALPHA

#: Names in a sentence; more are counted.
_MOST_NAMES = 4


@dataclass(frozen=True)
class Claim:
    """The method on a task, against one arm or against every baseline."""

    #: Whom it meets.
    against: tuple[str, ...]
    #: Baselines without all planned seeds, which it does not meet.
    left_out: tuple[str, ...]
    #: With the one arm; or with the baseline that is hardest to beat, whose p is that of the claim.
    closest: Comparison
    #: Baselines that the method is not shown to beat; those that beat it.
    unbeaten: tuple[str, ...]
    #: The claim's own.
    p: float

    @property
    def of_all(self) -> bool:
        """Whether it is about several baselines."""
        return len(self.against) > 1

    @property
    def winner(self) -> str | None:
        """The method, or the one arm that it met, if the claim is decided."""
        return None if self.of_all and self.closest.delta <= 0 else self.closest.winner


def levels(has_claims: bool, has_others: bool, alpha: float = ALPHA) -> tuple[float, float]:
    """What the claims, and all other comparisons, may err with, of ``alpha``."""
    each = alpha / 2 if has_claims and has_others else alpha
    return each, each


def claim(comparisons: Sequence[Comparison], left_out: Sequence[str], level: float) -> Claim:
    """On one task, from the comparisons with each of those that the method is to beat, at least one."""
    several = len(comparisons) > 1

    def hard_to_beat(one: Comparison) -> tuple[bool, float]:
        behind = one.delta <= 0
        return behind, -one.p if behind else one.p

    closest = max(comparisons, key=hard_to_beat)
    unbeaten = tuple(one.baseline for one in comparisons if one.delta <= 0 or one.p > level)
    return Claim(
        against=tuple(one.baseline for one in comparisons),
        left_out=tuple(left_out),
        closest=closest,
        unbeaten=unbeaten,
        p=1.0 if several and closest.delta <= 0 else closest.p,
    )


def judged_claims(claims: Sequence[Claim], level: float) -> list[Claim]:
    """Corrected by Holm over the tasks."""
    found = judged([one.closest for one in claims], level, ps=[one.p for one in claims])
    return [replace(one, closest=closest) for one, closest in zip(claims, found, strict=True)]


def implied(one: Claim, comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """What a decided claim says of each baseline that it beat and that was not separated otherwise, by name.

    The claim is false wherever one of them is: they add nothing to what it may err with.
    """
    if not one.of_all or one.winner is None:
        return {}
    closest = one.closest
    return {
        name: replace(
            comparison,
            holm_p=closest.holm_p,
            adjusted=comparison.estimate.interval(closest.adjusted_alpha),
            adjusted_alpha=closest.adjusted_alpha,
            level=closest.level,
            first_level=closest.first_level,
        )
        for name in one.against
        if not (comparison := comparisons[name]).separated
    }


def claim_sentence(one: Claim, others: Mapping[str, Comparison]) -> str:
    """What the claim comes to on its task.

    Args:
        others: the judged comparison with each arm on the task.
    """
    closest = one.closest
    if not one.of_all or closest.withheld is not None:
        return verdict(closest)
    where = f"every baseline on {closest.task}"
    if one.winner is not None:
        return (
            f"{closest.method} is better than {where}; hardest to beat was {closest.baseline}, "
            f"{closest.words}, Holm p = {closest.holm_p:.4g}."
        )
    better = [name for name in one.against if name in others and others[name].winner == name]
    open_ones = [name for name in one.unbeaten if name not in better]
    words = [f"No winner on {closest.task}: {closest.method} is not shown to be better than {where}"]
    words += [f"better than it: {_names(better)}"] if better else []
    words += [f"not separated: {_names(open_ones)}"] if open_ones else []
    if not better:
        words.append(f"against {closest.baseline}, {closest.words}, {it_would_take(closest)}")
    return "; ".join(words) + "."


def winner(claims: Sequence[Claim], tasks: Sequence[str], sentences: Sequence[str]) -> tuple[str | None, str]:
    """The arm that wins on every task, if there is one, and the sentence about it."""
    missing = sorted(set(tasks) - {one.closest.task for one in claims})
    if missing:
        return None, f"No winner: nothing to compare on {', '.join(missing)}."
    winners = {one.winner for one in claims}
    (arm,) = winners if len(winners) == 1 else (None,)
    if arm is None:
        return None, " ".join(sentences)
    method, on_all = claims[0].closest.method, f"on every task ({', '.join(tasks)})"
    beaten = sorted({"every baseline" if one.of_all else one.closest.baseline for one in claims})
    if arm == method:
        return arm, f"{method} is better than {' and '.join(beaten)} {on_all}."
    return arm, f"{arm} is better than {method} {on_all}."


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
