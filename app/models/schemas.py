"""Models on the wire: OpenAI's object with where a model comes from and which mode it answers in."""

from typing import Literal

from pydantic import BaseModel, Field

from trainer.spec.modes import Mode


class ModelDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["model"] = "model"
    deleted: bool = True


class ModelObject(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    mode: Mode = Field(description="The mode in which this id answers")
    root: str = Field(description="The base model at the beginning")
    parent: str | None = Field(description="What the job was started from; null for a base model")
    job: str | None = Field(description="The fine-tuning job that made it")
    step: int | None = Field(description="How many training steps the weights have had")
