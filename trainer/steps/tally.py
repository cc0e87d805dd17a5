"""What each grader did in a step, or in an evaluation: rewards, errors, time, and judges' tokens."""

from collections.abc import Mapping, Sequence

from trainer.graders.grade import Grade
from trainer.graders.spec import Grader as GraderSpec
from trainer.graders.spec import MultiGrader
from trainer.spec.events import GraderUse, Grading
from trainer.spec.modes import Mode
from trainer.types import Rollout


class Tally:
    """Adds up grades, each with what its parts did."""

    def __init__(self, grader: GraderSpec | None = None):
        self._type = "function" if grader is None else grader.type
        self._types = (
            {name: one.type for name, one in grader.named.items()} if isinstance(grader, MultiGrader) else {}
        )
        self._by_mode: dict[Mode, Grading] = {}

    def add(self, rollouts: Sequence[Rollout], grades: Sequence[Grade]) -> None:
        """Count responses that were taken apart and graded."""
        for rollout, grade in zip(rollouts, grades, strict=True):
            mode = rollout.behavior_mode
            new = Grading(mode=mode, responses=0, reasoning_tokens=0, graders=[])
            of_mode = self._by_mode.setdefault(mode, new)
            of_mode.responses += 1
            of_mode.reasoning_tokens += rollout.thought_tokens
            _count(_use(of_mode, grade.grader, self._type), grade)
            for name, part in grade.parts.items():
                _count(_use(of_mode, name, self._types.get(name, "")), part)

    def result(self) -> list[Grading]:
        """What was counted, of each mode that had responses."""
        return [self._by_mode[mode] for mode in Mode if mode in self._by_mode]


def _use(of_mode: Grading, name: str, kind: str) -> GraderUse:
    for use in of_mode.graders:
        # A part may be called what the whole is.
        if (use.name, use.type) == (name, kind):
            return use
    use = GraderUse(name=name, type=kind, graded=0, rewards=0.0, errors={}, seconds=0.0, tokens={})
    of_mode.graders.append(use)
    return use


def _count(use: GraderUse, grade: Grade) -> None:
    if grade.reward is not None:
        use.graded += 1
        use.rewards += grade.reward
    kind = "sample_parse_error" if grade.parse_error is not None else grade.kind
    if grade.reward is None or grade.parse_error is not None:
        use.errors[kind] = use.errors.get(kind, 0) + 1
    use.seconds += grade.seconds
    _add_tokens(use.tokens, grade.usage)


def _add_tokens(total: dict[str, dict[str, int]], usage: Mapping[str, Mapping[str, int]]) -> None:
    for model, counts in usage.items():
        of_model = total.setdefault(model, {})
        for what, count in counts.items():
            of_model[what] = of_model.get(what, 0) + count
