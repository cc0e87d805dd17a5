"""What a job's creation accepts: OpenAI's fields, and ours beside them."""

from typing import Annotated, Any, Literal, cast

from pydantic import Field, StringConstraints, field_validator, model_validator

from app.core.parameters import Metadata
from app.jobs.integrations import Integration
from trainer.graders.response_format import ResponseFormat
from trainer.graders.spec import Grader, StrictModel
from trainer.spec.algorithm import AlgorithmSpec, PolicySplit
from trainer.spec.data import EnvironmentData
from trainer.spec.model import LogitsDtype, LoraSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Placement
from trainer.spec.run import (
    ChatTemplateKwargs,
    CheckpointSpec,
    DiagnosticsSpec,
    EvaluationSpec,
    Guards,
    OptimizerSpec,
    OverlongPrompts,
    PreflightSpec,
    RolloutSpec,
)

Auto = Literal["auto"] | None
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | Auto
Factor = Annotated[float, Field(strict=True, gt=0, le=1_000_000)] | Auto


Hours = Annotated[float, Field(gt=0, le=1_000_000)]


class CommonHyperparameters(StrictModel):
    """OpenAI's hyperparameters of every method, as older clients send them beside the method."""

    batch_size: Count = Field(default="auto", description="Prompts a step; auto: 8, or all rows if fewer")
    n_epochs: Count = Field(default="auto", description="Passes over the training data; auto: 1")
    learning_rate_multiplier: Factor = Field(default="auto", description="Times 3e-6; auto: 1")


class Hyperparameters(CommonHyperparameters):
    """OpenAI's hyperparameters. What ``auto`` becomes is in ``app.jobs.resolution``, and the job shows it."""

    compute_multiplier: Factor = Field(default="auto", description="Times 8 samples a prompt; auto: 1")
    eval_interval: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | Auto = Field(
        default="auto",
        description="Steps between evaluations; auto: a tenth of the run; 0: first and last step only",
    )
    eval_samples: Count = Field(default="auto", description="Samples an item and mode; auto: 1")
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = Field(
        default=None,
        description="Becomes a variable of the model's chat template: reasoning_effort where it reads that, "
        "enable_thinking or thinking where there are no degrees; elsewhere without effect. An event tells",
    )


class Budget(StrictModel):
    """How long to train, in place of ``n_epochs``, and when to pause (``app.jobs.budget``)."""

    steps: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] | None = Field(
        default=None, description="0: evaluate the model as it is; its checkpoint is the job's result"
    )
    pause_after_steps: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = Field(
        default=None, description="Pause after so many steps, to look and to resume; default: not"
    )
    wall_clock_hours: Hours | None = Field(default=None, description="Pause after so long a training")
    gpu_hours: Hours | None = Field(
        default=None, description="Pause after so much training times GPUs; none is used on a CPU"
    )
    entropy_floor: Annotated[float, Field(ge=0, le=1_000)] | None = Field(
        default=None, description="Pause when the normal mode's entropy (nats, mean of 5 steps) is below"
    )


class Reinforcement(StrictModel):
    """OpenAI's ``grader`` and ``hyperparameters``; the other keys are ours."""

    grader: Grader = Field(description="What rewards are made from: a definition by type")
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The form that answers must have. One that is not of it gets the reward 0 and is not "
        "graded; say in the messages what the form is, for the model is not told",
    )
    hyperparameters: Hyperparameters = Field(
        default_factory=Hyperparameters,
        description="OpenAI's settings; those beside it say the same in more detail",
    )
    algorithm: AlgorithmSpec = Field(
        default_factory=PolicySplit,
        description="How responses become updates; default policy_split, both modes at once",
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How responses are sampled in training"
    )
    optimizer: OptimizerSpec = Field(
        default_factory=OptimizerSpec, description="AdamW: learning rate, warm-up, clipping"
    )
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="How both modes are measured on the validation data"
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=CheckpointSpec, description="What is saved, what is kept, which one is the result"
    )
    diagnostics: DiagnosticsSpec = Field(
        default_factory=DiagnosticsSpec,
        description="What is measured of the modes' difference inside the model",
    )
    preflight: PreflightSpec = Field(
        default_factory=PreflightSpec,
        description="The check of the grader on a few responses before training",
    )
    overlong_prompts: OverlongPrompts = "fail"
    guards: Guards = "stop"
    budget: Budget = Field(default_factory=Budget, description="How long to train, and when to pause")
    high_entropy_prompt: Annotated[str, StringConstraints(max_length=16_384)] = Field(
        default=DEFAULT_HIGH_ENTROPY_PROMPT,
        description="The text that switches the high-entropy mode on, in training and serving alike; empty: "
        "both modes read the same",
    )
    high_entropy_placement: Placement = Field(
        default="system",
        description="Where it stands: in the system message, or in front of the first user message for "
        "models without one",
    )
    chat_template_kwargs: ChatTemplateKwargs = Field(
        default_factory=dict, description="Variables of the chat template, such as enable_thinking"
    )
    lora: LoraSpec | None = Field(default=None, description="Train adapters; default all weights")
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16",
        description="Precision of the weights in use; the optimizer keeps float32 masters. float32 for exact "
        "numbers on a CPU",
    )
    logits_dtype: LogitsDtype = Field(
        default="float32",
        description="float32: logits are computed in float32; model: in dtype, which takes less memory",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute layers again on the way back, for less memory and more time"
    )

    @field_validator("hyperparameters", mode="before")
    @classmethod
    def _null_is_default(cls, value: object) -> Any:
        return {} if value is None else value


_OTHERS = ("supervised", "dpo")
_INSTEAD = "give a method {'type': 'reinforcement', 'reinforcement': {'grader': …}}"


class Method(StrictModel):
    """How to train."""

    type: Literal["reinforcement"] = Field(description="Always reinforcement: no other method is done here")
    reinforcement: Reinforcement = Field(description="The grader, and every setting of the training")

    @model_validator(mode="before")
    @classmethod
    def _is_one_that_is_done(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        method = cast(dict[str, object], value)
        if method.get("type") in _OTHERS:
            raise ValueError(f"{method['type']} jobs are not trained here yet; {_INSTEAD}")
        # A job that was exported has the other methods as null.
        return {name: one for name, one in method.items() if name not in _OTHERS or one is not None}


class CreateJob(StrictModel):
    """The body of ``POST /v1/fine_tuning/jobs``."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="The model to start from: a base model of GET /v1/models, or a fine-tuned one"
    )
    method: Method = Field(description="How to train, and what is rewarded")
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
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )
    integrations: Annotated[list[Integration], Field(max_length=3)] | None = Field(
        default=None, description="Where else its metrics go; keys and addresses are the worker's own"
    )

    hyperparameters: CommonHyperparameters | None = Field(
        default=None, description="The older place of these three of ``method.reinforcement.hyperparameters``"
    )

    @model_validator(mode="before")
    @classmethod
    def _has_a_method(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("method") is None:
            raise ValueError(
                f"without a 'method' it is a supervised job, which is not trained here yet; {_INSTEAD}"
            )
        return value

    @model_validator(mode="after")
    def _hyperparameters_agree(self) -> "CreateJob":
        """What is given in the older place counts in the newer one."""
        ours = self.method.reinforcement.hyperparameters
        for name in CommonHyperparameters.model_fields if self.hyperparameters is not None else ():
            older, newer = getattr(self.hyperparameters, name), getattr(ours, name)
            if older in (None, "auto", newer):
                continue
            if newer not in (None, "auto"):
                raise ValueError(
                    f"'hyperparameters.{name}' ({older}) and 'method.reinforcement.hyperparameters.{name}' "
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
