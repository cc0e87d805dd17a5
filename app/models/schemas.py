"""Models on the wire: OpenAI's object with where a model comes from and which mode it answers in."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.core.description import CreatedAt, Deleted, Kind
from trainer.graders.spec import StrictModel
from trainer.spec.modes import Mode


class ModelDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="The deleted id; all other ids of the same checkpoint are gone, too")
    object: Kind[Literal["model"]] = "model"
    deleted: Deleted = True


class ModelObject(BaseModel):
    """A model that can be queried."""

    id: str = Field(description="Id to give as model, to query it or to continue training from it")
    object: Kind[Literal["model"]] = "model"
    created: int = Field(description="When its weights were written, Unix time in seconds")
    owned_by: str = Field(
        description="system for a base model, otherwise the operator's name for this service"
    )
    mode: Mode = Field(description="The mode in which this id answers")
    root: str = Field(description="The base model it originates from")
    parent: str | None = Field(description="The model its job started from; null for a base model")
    job: str | None = Field(description="The fine-tuning job that produced it")
    step: int | None = Field(description="Training steps the weights have had")


class PullModel(StrictModel):
    """The body of ``POST /v1/models/pull``."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="organisation/name on the model hub, or SmolLM2-135M-Instruct, which a Python package "
        "also ships"
    )


class PullError(BaseModel):
    """Why a model could not be fetched."""

    code: str = Field(
        description="Machine-readable code, such as download_broke_off, disk_full or interrupted"
    )
    message: str = Field(description="What went wrong and what to do about it, in words")


class ModelPull(BaseModel):
    """A base model being fetched in the background."""

    id: str = Field(description="The model's name once fetched, to give as a job's model")
    object: Kind[Literal["model.pull"]]
    status: Literal["running", "succeeded", "failed", "cancelled"] = Field(
        description="failed: see error; repeating the call continues an interrupted pull, and restarts a "
        "cancelled one"
    )
    stage: str = Field(description="Current stage, in words")
    created_at: CreatedAt
    finished_at: int | None = Field(description="When it ended, Unix time in seconds; null until then")
    done_bytes: int | None = Field(description="Bytes fetched so far; null in stages without a size")
    total_bytes: int | None = Field(description="Total bytes of the stage; null in stages without a size")
    origin: Literal["hub", "package"] | None = Field(
        description="The model hub or a Python package; null if not known yet"
    )
    license: str | None = Field(description="As given on the hub; null if none is given")
    note: str | None = Field(description="Note on these weights; null if none")
    error: PullError | None = Field(description="Why it failed; null otherwise")


class PullList(BaseModel):
    """Pulls, latest first."""

    object: Kind[Literal["list"]]
    data: list[ModelPull] = Field(description="One element per model: its last pull")


class AvailableModel(BaseModel):
    """A model that can be fetched, with rough memory needs: a job's estimate measures them."""

    id: str = Field(description="The name to give to POST /v1/models/pull")
    object: Kind[Literal["model.available"]]
    license: str | None = Field(description="As given on the hub; null if none is given")
    download_bytes: int = Field(description="Size of its files")
    parameters: int = Field(description="Number of its weights")
    memory_to_ask_bytes: int = Field(description="Memory needed to query it")
    memory_to_train_adapters_bytes: int = Field(
        description="Memory needed to train it with method.reinforcement.lora"
    )
    memory_to_train_bytes: int = Field(description="Memory needed to train all weights")
    fits: Literal["training", "adapters", "asking", "nothing"] = Field(
        description="The most demanding use that this machine's memory allows"
    )
    note: str | None = Field(description="Note on these weights; null if none")
    there: bool = Field(description="Whether it is already here")


class MachineObject(BaseModel):
    """The API's machine; workers elsewhere may have more memory."""

    device: str = Field(description="The largest GPU's name, or cpu")
    memory_bytes: int = Field(description="That GPU's memory, or the machine's")
    free_disk_bytes: int = Field(description="Where models are kept")


class AvailableModels(BaseModel):
    """Suggested models, smallest first."""

    object: Kind[Literal["list"]]
    machine: MachineObject = Field(description="The machine that determines what fits")
    may_pull: bool = Field(description="Whether the requesting key may fetch them")
    data: list[AvailableModel] = Field(description="Models that this machine can at least query")
