"""What a job's creation accepts: OpenAI's fields, and ours beside them."""

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from app.core.parameters import Metadata
from app.jobs.integrations import Integration
from app.jobs.methods import CommonHyperparameters, Method
from trainer.graders.spec import StrictModel
from trainer.spec.data import EnvironmentData
from trainer.spec.resources import Resources


class CreateJob(StrictModel):
    """The body of ``POST /v1/fine_tuning/jobs``."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="The model to start from: a base model of GET /v1/models, or a fine-tuned one"
    )
    method: Method = Field(
        default_factory=lambda: Method(type="supervised"),
        description="How to train, and what is rewarded; left out, it is a supervised job",
    )
    training_file: str | None = Field(default=None, description="This or ``environment``")
    environment: EnvironmentData | None = Field(
        default=None, description="Items drawn from a reasoning-gym task, in place of a training file"
    )
    validation_file: str | None = Field(
        default=None,
        description="Id of a file whose items both modes are evaluated on; without one, nothing is evaluated",
    )
    validation_environment: EnvironmentData | None = Field(
        default=None,
        description="Default with ``environment``: the items that follow those of the training",
    )
    suffix: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] | None = Field(
        default=None,
        description="Part of the result's id, up to 64 characters of letters, digits and ._-; default none",
    )
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] | None = Field(
        default=None,
        description="What all randomness is derived from; the same seed gives the same run. Default: one is "
        "drawn, and shown",
    )
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] = Field(
        default=0, description="Of the project's waiting jobs the highest is next"
    )
    resources: Resources = Field(
        default_factory=Resources, description="The GPUs that it is to have; default one"
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )
    integrations: Annotated[list[Integration], Field(max_length=3)] | None = Field(
        default=None, description="Where else its metrics go; keys and addresses are the worker's own"
    )

    hyperparameters: CommonHyperparameters | None = Field(
        default=None, description="The older place of these three of the method's own ``hyperparameters``"
    )

    @field_validator("method", mode="before")
    @classmethod
    def _null_is_supervised(cls, value: object) -> object:
        return {"type": "supervised"} if value is None else value

    @model_validator(mode="after")
    def _hyperparameters_agree(self) -> "CreateJob":
        """What is given in the older place counts in the newer one."""
        kind, ours = self.method.type, self.method.settings.hyperparameters
        for name in CommonHyperparameters.model_fields if self.hyperparameters is not None else ():
            older, newer = getattr(self.hyperparameters, name), getattr(ours, name)
            if older in (None, "auto", newer):
                continue
            if newer not in (None, "auto"):
                raise ValueError(
                    f"'hyperparameters.{name}' ({older}) and 'method.{kind}.hyperparameters.{name}' "
                    f"({newer}) say different things about the same: give the latter"
                )
            setattr(ours, name, older)
        return self

    @field_validator("integrations")
    @classmethod
    def _each_once(cls, value: list[Integration] | None) -> list[Integration] | None:
        kinds = [one.type for one in value or ()]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"{kind!r} appears {kinds.count(kind)} times: give each type once")
        return value


Tag = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^,\n]+$")
]


class UpdateJob(StrictModel):
    """The body of ``POST /v1/fine_tuning/jobs/{id}``: what people say of a job. What is left out stays."""

    note: Annotated[str, StringConstraints(max_length=10_000)] | None = Field(
        default=None,
        description="What you want to remember about it, up to 10,000 characters; null removes it",
    )
    tags: Annotated[list[Tag], Field(max_length=16)] | None = Field(
        default=None, description="All of its tags; they hold no comma"
    )
    metadata: Metadata | None = Field(default=None, description="All of its pairs")
