"""What is added to an experiment by a request to extend it."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadRequest, Conflict
from app.experiments.schemas import MAX_CHECKS, MAX_RUNS, Arm, CreateExperiment, Definition, ExtendExperiment


@dataclass(frozen=True)
class Extension:
    """The definition before and after; the arms and the seeds that it did not have before."""

    before: Definition
    after: Definition
    arms: Sequence[Arm]
    seeds: Sequence[int]
    request: ExtendExperiment

    def seeds_of(self, arm: Arm) -> Sequence[int]:
        """The seeds with which the arm gets a run on each task."""
        return self.after.seeds if arm in self.arms else self.seeds

    @property
    def notes(self) -> list[str]:
        """What adding this changes about the verdicts."""
        counted, planned = self.after.seeds_before, self.after.compare.analyses
        if not self.seeds or len(counted) < planned:
            return []
        verdicts = "one verdict was" if planned == 1 else f"{planned} verdicts were"
        return [
            f"Results are already visible, and {verdicts} planned (compare.analyses): the first "
            f"{counted[planned - 1]} seeds decide; seeds added now are only shown."
        ]


def extension(before: Definition, request: ExtendExperiment, *, seen: bool) -> Extension:
    """The extension of ``before``; ``seen``: a result of its newest seeds could be looked at.

    Raises BadRequest where there would be too many runs, Conflict for an arm that is there as another.
    """
    arms = _new_arms(before, request)
    seeds = [seed for seed in dict.fromkeys(request.seeds) if seed not in before.seeds]
    after = before.model_copy(update={"arms": [*before.arms, *arms], "seeds": [*before.seeds, *seeds]})
    if seeds and seen:
        after = after.model_copy(update={"seeds_before": [*before.seeds_before, len(before.seeds)]})
    if (checks := len(after.arms) * len(after.tasks)) > MAX_CHECKS:
        raise BadRequest(f"That would make {checks} distinct jobs, more than {MAX_CHECKS}.", param="arms")
    if (runs := len(after.arms) * len(after.tasks) * len(after.seeds)) > MAX_RUNS:
        raise BadRequest(f"That would make {runs} runs, more than {MAX_RUNS}.", param="seeds")
    return Extension(before, after, arms, seeds, request)


def _new_arms(old: CreateExperiment, request: ExtendExperiment) -> list[Arm]:
    known = {one.name: one for one in old.arms}
    new: dict[str, Arm] = {}
    for number, arm in enumerate(request.arms):
        there = known.get(arm.name) or new.get(arm.name)
        if there is None:
            new[arm.name] = arm
        elif there != arm:
            raise Conflict(
                f"The experiment has an arm '{arm.name}' with a different definition: give the new one "
                "another name.",
                param=f"arms.{number}",
            )
    return list(new.values())
