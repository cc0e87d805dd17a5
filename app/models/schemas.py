"""Models on the wire: OpenAI's object with where a model comes from and which mode it answers in."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import Deleted, Kind
from trainer.spec.modes import Mode


class ModelDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(
        description="Id that was asked to be deleted; all other ids of the same checkpoint are gone, too"
    )
    object: Kind[Literal["model"]] = "model"
    deleted: Deleted = True


class ModelObject(BaseModel):
    """A model that can be asked."""

    id: str = Field(description="What to give as model: to ask it, or to train on from it")
    object: Kind[Literal["model"]] = "model"
    created: int = Field(description="When its weights were written, Unix time in seconds")
    owned_by: str = Field(
        description="system for a base model, else what the operator has called this service"
    )
    mode: Mode = Field(description="The mode in which this id answers")
    root: str = Field(description="The base model at the beginning")
    parent: str | None = Field(description="What the job was started from; null for a base model")
    job: str | None = Field(description="The fine-tuning job that made it")
    step: int | None = Field(description="How many training steps the weights have had")
