"""How a job may train: one method of OpenAI's three, each with its settings, those of OpenAI's and ours."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from trainer.graders.response_format import ResponseFormat
from trainer.graders.spec import Grader, StrictModel
from trainer.spec.algorithm import AlgorithmSpec, PolicySplit
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.model import LogitsDtype, LoraSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Placement
from trainer.spec.run import (
    ChatTemplateKwargs,
    CheckpointSpec,
    DiagnosticsSpec,
    Guards,
    OptimizerSpec,
    OverlongPrompts,
    PreflightSpec,
    RolloutSpec,
)
from trainer.spec.taught import MaxTokens, OverlongRows

Auto = Literal["auto"] | None
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | Auto
Factor = Annotated[float, Field(strict=True, gt=0, le=1_000_000)] | Auto
Hours = Annotated[float, Field(gt=0, le=1_000_000)]
#: A client may send null for settings that are all default.
Nullable = BeforeValidator(lambda value: {} if value is None else value)


class CommonHyperparameters(StrictModel):
    """OpenAI's hyperparameters of every method, as older clients send them beside the method."""

    batch_size: Count = Field(default="auto", description="Rows a step, as the method has it")
    n_epochs: Count = Field(default="auto", description="Passes over the training data")
    learning_rate_multiplier: Factor = Field(
        default="auto", description="Times the learning rate that the method begins with; auto: 1"
    )


class Hyperparameters(CommonHyperparameters):
    """OpenAI's hyperparameters. What ``auto`` becomes is in ``app.jobs.resolution``, and the job shows it."""

    batch_size: Count = Field(default="auto", description="Prompts a step; auto: 8, or all rows if fewer")
    n_epochs: Count = Field(default="auto", description="Passes over the training data; auto: 1")
    learning_rate_multiplier: Factor = Field(default="auto", description="Times 3e-6; auto: 1")
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
        default=None,
        description="Pause after so many steps, to look and to resume; a few more where a second has several",
    )
    wall_clock_hours: Hours | None = Field(default=None, description="Pause after so long a training")
    gpu_hours: Hours | None = Field(
        default=None, description="Pause after so much training times GPUs; none is used on a CPU"
    )
    entropy_floor: Annotated[float, Field(ge=0, le=1_000)] | None = Field(
        default=None, description="Pause when the normal mode's entropy (nats, mean of 5 steps) is below"
    )


class Training(StrictModel):
    """The settings that every method has; all are ours."""

    optimizer: OptimizerSpec = Field(
        default_factory=OptimizerSpec, description="AdamW: learning rate, warm-up, clipping"
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=CheckpointSpec, description="What is saved, what is kept, which one is the result"
    )
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


class Reinforcement(Training):
    """OpenAI's ``grader`` and ``hyperparameters``; the other keys are ours."""

    grader: Grader = Field(description="What rewards are made from: a definition by type")
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The form that answers must have. One that is not of it gets the reward 0 and is not "
        "graded; say in the messages what the form is, for the model is not told",
    )
    hyperparameters: Annotated[Hyperparameters, Nullable] = Field(
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
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="How both modes are measured on the validation data"
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


class TaughtEvaluation(StrictModel):
    """How often all rows of the validation file are measured; a few of them are at each step."""

    interval: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="Every how many steps, and a checkpoint with it; default: each epoch; 0: first and last "
        "step only",
    )


class SupervisedHyperparameters(CommonHyperparameters):
    """OpenAI's hyperparameters of supervised training."""

    batch_size: Count = Field(
        default="auto",
        description="Rows a step; auto: 0.2 % of them, 8 at the least and 256 at the most",
    )
    n_epochs: Count = Field(
        default="auto",
        description="Passes over the training data; auto: 3, up to 25 for fewer than 34 rows, 1 or 2 for "
        "more than 8,333",
    )
    learning_rate_multiplier: Factor = Field(
        default="auto", description="Times 1e-5, or 1e-4 with lora; auto: 1"
    )


class Supervised(Training):
    """OpenAI's ``hyperparameters``; the other keys are ours."""

    hyperparameters: Annotated[SupervisedHyperparameters, Nullable] = Field(
        default_factory=SupervisedHyperparameters, description="OpenAI's settings"
    )
    modes: Literal["normal", "both"] = Field(
        default="normal",
        description="both: each row also trains under the high-entropy prompt, as a start for policy_split",
    )
    evaluation: TaughtEvaluation = Field(
        default_factory=TaughtEvaluation, description="When the loss on the validation file is measured"
    )
    max_tokens: MaxTokens = None
    overlong_rows: OverlongRows = "fail"


class DpoHyperparameters(SupervisedHyperparameters):
    """OpenAI's hyperparameters of direct preference optimization."""

    learning_rate_multiplier: Factor = Field(
        default="auto", description="Times 1e-6, or 1e-5 with lora; auto: 1"
    )
    beta: Annotated[float, Field(strict=True, gt=0, le=2)] | Auto = Field(
        default="auto",
        description="How much a nat of distance from the model that training began with counts; auto: 0.1",
    )


class Dpo(Training):
    """OpenAI's ``hyperparameters``; the other keys are ours."""

    hyperparameters: Annotated[DpoHyperparameters, Nullable] = Field(
        default_factory=DpoHyperparameters, description="OpenAI's settings"
    )
    evaluation: TaughtEvaluation = Field(
        default_factory=TaughtEvaluation, description="When the loss on the validation file is measured"
    )
    max_tokens: MaxTokens = None
    overlong_rows: OverlongRows = "fail"


METHODS = ("supervised", "dpo", "reinforcement")


class Method(StrictModel):
    """How to train: the type, and the settings of this type under its name."""

    type: Literal["supervised", "dpo", "reinforcement"] = Field(
        description="supervised: learn to say what the rows' assistants say; dpo: which of two answers is "
        "preferred; reinforcement: from a grader's rewards of the model's own answers"
    )
    supervised: Supervised | None = Field(
        default=None, description="The settings of a supervised job; left out, all are default"
    )
    dpo: Dpo | None = Field(default=None, description="The settings of a dpo job; left out, all are default")
    reinforcement: Reinforcement | None = Field(
        default=None, description="The grader, and every setting of a reinforcement job"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        method = cast(dict[str, object], value)
        # A job that was exported has the other methods as null.
        return {name: one for name, one in method.items() if name not in METHODS or one is not None}

    @model_validator(mode="after")
    def _has_its_settings(self) -> "Method":
        for name in METHODS:
            if name != self.type and getattr(self, name) is not None:
                raise ValueError(
                    f"the type is {self.type!r}, but settings of {name!r} are given: leave them out, or give "
                    "that type"
                )
        if self.type == "supervised" and self.supervised is None:
            self.supervised = Supervised()
        if self.type == "dpo" and self.dpo is None:
            self.dpo = Dpo()
        if self.type == "reinforcement" and self.reinforcement is None:
            raise ValueError("of the type 'reinforcement' it needs the key 'reinforcement' with a grader")
        return self

    @property
    def settings(self) -> Supervised | Dpo | Reinforcement:
        """Those of its type."""
        found = self.supervised or self.dpo or self.reinforcement
        assert found is not None, "which the validation has seen to"
        return found


def settings_of(method: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stored method."""
    return method.get(method.get("type", "reinforcement"), {})
