"""Models on the wire: OpenAI's object with where a model comes from and which mode it answers in."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.core.description import CreatedAt, Deleted, Kind
from trainer.graders.spec import StrictModel
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


class PullModel(StrictModel):
    """The body of ``POST /v1/models/pull``."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="organisation/name on the model hub, or SmolLM2-135M-Instruct, which a Python package "
        "ships, too"
    )


class PullError(BaseModel):
    """Why a model could not be fetched."""

    code: str = Field(description="A word for programs, such as download_broke_off, disk_full or interrupted")
    message: str = Field(description="What went wrong and what to do about it, for people")


class ModelPull(BaseModel):
    """A base model that is fetched in the background."""

    id: str = Field(description="What the model is called once it is there: give it as a job's model")
    object: Kind[Literal["model.pull"]]
    status: Literal["running", "succeeded", "failed", "cancelled"] = Field(
        description="failed: error says why; the same call continues what was cut off, and begins anew what "
        "was cancelled"
    )
    stage: str = Field(description="What is being done, in words")
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it was over, Unix time in seconds; null until then")
    done_bytes: int | None = Field(description="Bytes that are here; null in stages that have no size")
    total_bytes: int | None = Field(description="Bytes that the stage has in all; null where it has no size")
    origin: Literal["hub", "package"] | None = Field(
        description="The model hub or a Python package; null until that is known"
    )
    license: str | None = Field(description="As the hub names it; null where it names none")
    note: str | None = Field(description="What to know of these weights; null where there is nothing to say")
    error: PullError | None = Field(description="Why it failed; null otherwise")


class PullList(BaseModel):
    """Pulls, the latest first."""

    object: Kind[Literal["list"]]
    data: list[ModelPull] = Field(description="One element a model: its last pull")


class AvailableModel(BaseModel):
    """A model that can be fetched, and what it takes, about: an estimate of a job measures it."""

    id: str = Field(description="What to give as name to POST /v1/models/pull")
    object: Kind[Literal["model.available"]]
    license: str | None = Field(description="As the hub names it; null where it names none")
    download_bytes: int = Field(description="Size of its files")
    parameters: int = Field(description="How many weights it has")
    memory_to_ask_bytes: int = Field(description="What it takes to answer")
    memory_to_train_adapters_bytes: int = Field(
        description="What training takes with method.reinforcement.lora"
    )
    memory_to_train_bytes: int = Field(description="What training of all weights takes")
    fits: Literal["training", "adapters", "asking", "nothing"] = Field(
        description="The most that this machine's memory is enough for"
    )
    note: str | None = Field(description="What to know of these weights; null where there is nothing to say")
    there: bool = Field(description="true: it is here already")


class MachineObject(BaseModel):
    """The machine of the API: a worker elsewhere may have more."""

    device: str = Field(description="The largest GPU's name, or cpu")
    memory_bytes: int = Field(description="That GPU's memory, or the machine's own")
    free_disk_bytes: int = Field(description="Where models are kept")


class AvailableModels(BaseModel):
    """Models to begin with, the smallest first."""

    object: Kind[Literal["list"]]
    machine: MachineObject = Field(description="What fits is measured by this")
    may_pull: bool = Field(description="Whether the key that asks may fetch them")
    data: list[AvailableModel] = Field(description="Those that this machine can at least ask")
