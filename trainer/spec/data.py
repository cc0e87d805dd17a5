"""What a run trains and validates on: rows of a file, or items of a task."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.graders.spec import StrictModel


class JsonlData(StrictModel):
    """A JSONL file: one object per line with ``messages``; the other keys are the grader's ``item``."""

    type: Literal["jsonl"] = "jsonl"
    path: str


class EnvironmentData(StrictModel):
    """Items drawn from a reasoning-gym task with its own parameters."""

    type: Literal["environment"] = Field(default="environment", description="Items of a reasoning-gym task")
    task: str = Field(description="Name of a reasoning-gym task, such as chain_sum")
    parameters: dict[str, object] = Field(
        default_factory=dict, description="Parameters of the task, such as min_terms; default: the task's own"
    )
    size: int = Field(default=1000, ge=1, le=10_000_000, description="Number of distinct items")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed of the items; a different seed gives different items"
    )
    instruction: str = Field(
        default="", max_length=65_536, description="Text appended to each question, such as the answer format"
    )


Data = Annotated[JsonlData | EnvironmentData, Field(discriminator="type")]
