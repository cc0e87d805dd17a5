"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): groups that teach nothing are replaced.

Replaced ones stay on record: they cost time, and they show how hard the items are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.graders.grade import Grade
from trainer.types import Group


@dataclass
class Collected:
    """The groups of a step, all sampled and graded."""

    kept: list[Group] = field(default_factory=list)
    dropped: list[Group] = field(default_factory=list)
    rounds: int = 0
    errors: list[Grade] = field(default_factory=list)
    """What the grader failed with."""

    @property
    def sampled(self) -> list[Group]:
        """Kept and dropped groups in the order in which they were sampled."""
        return sorted(self.kept + self.dropped, key=lambda group: group.index)


def collect_groups(
    sample: Callable[[int, int], list[Group]],
    keeps: Callable[[Group], bool],
    *,
    wanted: int,
    resampling_rounds: int,
) -> Collected:
    """Sample ``wanted`` groups, then as many as were not kept, for up to ``resampling_rounds`` more rounds.

    Args:
        sample: ``sample(first, count)`` gives ``count`` graded groups, numbered within the step from
            ``first`` on.
        keeps: whether a group is trained.

    Fewer than ``wanted`` are kept when the rounds are used up.
    """
    collected = Collected()
    while len(collected.kept) < wanted and collected.rounds <= resampling_rounds:
        first = len(collected.kept) + len(collected.dropped)
        for group in sample(first, wanted - len(collected.kept)):
            (collected.kept if keeps(group) else collected.dropped).append(group)
        collected.rounds += 1
    return collected
