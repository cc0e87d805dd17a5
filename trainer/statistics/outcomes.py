"""What a run's final evaluation says of each item, per mode: what paired comparisons are made of."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from trainer.graders.spec import StrictModel

ModeLabel = Literal["N", "H"]
#: ``mix`` takes half of the samples from each mode.
ScoredMode = Literal["N", "H", "mix"]
MODES: tuple[ScoredMode, ...] = get_args(ScoredMode)


class ModeOutcomes(StrictModel):
    """Of each item, in the order of the validation data: how many responses were graded, and how."""

    graded: list[int]
    correct: list[int] = Field(description="Responses with the whole reward")
    reward: list[float | None] = Field(description="Mean over the graded ones; None where there is none")
    right_answers: list[list[int]] | None = Field(
        default=None,
        description="How many of the correct ones gave each of the item's right answers, which both modes "
        "number alike; None where it is not known what a response answers",
    )

    @model_validator(mode="after")
    def _as_many_of_each(self) -> "ModeOutcomes":
        if not len(self.graded) == len(self.correct) == len(self.reward):
            raise ValueError("graded, correct and reward are of different lengths")
        if self.right_answers is not None and list(map(sum, self.right_answers)) != self.correct:
            raise ValueError("right_answers does not add up to correct")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_known(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Documents of runs whose grader knows no answers stay what they were."""
        fields = dump(self)
        if self.right_answers is None:
            del fields["right_answers"]
        return fields


Outcomes = Mapping[ModeLabel, ModeOutcomes]
