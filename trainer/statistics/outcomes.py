"""What a run's final evaluation says of each item, per mode: what paired comparisons are made of."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, model_validator

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

    @model_validator(mode="after")
    def _as_many_of_each(self) -> "ModeOutcomes":
        if not len(self.graded) == len(self.correct) == len(self.reward):
            raise ValueError("graded, correct and reward are of different lengths")
        return self


Outcomes = Mapping[ModeLabel, ModeOutcomes]
