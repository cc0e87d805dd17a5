"""How a job may train: one method of OpenAI's three, each with its settings, those of OpenAI's and ours."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from app.core.strict_json import JsonObject
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

    batch_size: Count = Field(default="auto", description="Rows per step, as the method defines them")
    n_epochs: Count = Field(default="auto", description="Passes over the training data")
    learning_rate_multiplier: Factor = Field(
        default="auto", description="Factor on the method's learning rate; auto: 1"
    )


class Hyperparameters(CommonHyperparameters):
    """OpenAI's hyperparameters. ``app.jobs.resolution`` resolves ``auto``, and the job shows the result."""

    batch_size: Count = Field(default="auto", description="Prompts per step; auto: 8, or all rows if fewer")
    n_epochs: Count = Field(default="auto", description="Passes over the training data; auto: 1")
    learning_rate_multiplier: Factor = Field(default="auto", description="Factor on 3e-6; auto: 1")
    compute_multiplier: Factor = Field(default="auto", description="Factor on 8 samples per prompt; auto: 1")
    eval_interval: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | Auto = Field(
        default="auto",
        description="Steps between evaluations; auto: a tenth of the run; 0: only the first and last step",
    )
    eval_samples: Count = Field(default="auto", description="Samples per item and mode; auto: 1")
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = Field(
        default=None,
        description="Passed to the model's chat template: as reasoning_effort if it reads that, as "
        "enable_thinking or thinking if it can only switch thinking on or off; otherwise it has no "
        "effect. An "
        "event says which",
    )


class Budget(StrictModel):
    """How long to train, instead of ``n_epochs``, and when to pause (``app.jobs.budget``)."""

    steps: Annotated[int, Field(strict=True, ge=0, le=10_000_000)] | None = Field(
        default=None, description="0: only evaluate the model; its checkpoint is the job's result"
    )
    pause_after_steps: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = Field(
        default=None,
        description="Pause after this many steps, to inspect and resume; a few more if several take less "
        "than a second",
    )
    wall_clock_hours: Hours | None = Field(default=None, description="Pause after this much training time")
    gpu_hours: Hours | None = Field(
        default=None, description="Pause after this much training time times GPUs; a CPU uses none"
    )
    entropy_floor: Annotated[float, Field(ge=0, le=1_000)] | None = Field(
        default=None,
        description="Pause when the normal mode's entropy (nats, mean of 5 steps) falls below this",
    )


class Training(StrictModel):
    """Settings of every method; all are ours."""

    optimizer: OptimizerSpec = Field(
        default_factory=OptimizerSpec, description="AdamW: learning rate, warm-up, clipping"
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=CheckpointSpec,
        description="When checkpoints are saved, which are kept, and which is the result",
    )
    budget: Budget = Field(default_factory=Budget, description="How long to train, and when to pause")
    high_entropy_prompt: Annotated[str, StringConstraints(max_length=16_384)] = Field(
        default=DEFAULT_HIGH_ENTROPY_PROMPT,
        description="The text that switches the high-entropy mode on, in training and serving; empty: "
        "both modes read the same",
    )
    high_entropy_placement: Placement = Field(
        default="system",
        description="Where it goes: in the system message, or before the first user message for models "
        "without one",
    )
    chat_template_kwargs: ChatTemplateKwargs = Field(
        default_factory=dict, description="Variables of the chat template, such as enable_thinking"
    )
    lora: LoraSpec | None = Field(default=None, description="Train adapters; default: all weights")
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16",
        description="Precision of the weights; the optimizer keeps float32 masters. Use float32 for exact "
        "numbers on a CPU",
    )
    logits_dtype: LogitsDtype = Field(
        default="float32",
        description="float32: compute logits in float32; model: in dtype, which takes less memory",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute layers in the backward pass: less memory, more time"
    )


class Reinforcement(Training):
    """OpenAI's ``grader`` and ``hyperparameters``; the other keys are ours."""

    grader: Grader = Field(description="The grader that gives rewards, by type")
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The format answers must have. One that does not match gets the reward 0 and is not "
        "graded; describe the format in the messages, because the model is not told",
    )
    hyperparameters: Annotated[Hyperparameters, Nullable] = Field(
        default_factory=Hyperparameters,
        description="OpenAI's settings; the fields beside it give the same in more detail",
    )
    algorithm: AlgorithmSpec = Field(
        default_factory=PolicySplit,
        description="How responses become updates; default: policy_split, both modes at once",
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How responses are sampled in training"
    )
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="How both modes are evaluated on the validation data"
    )
    diagnostics: DiagnosticsSpec = Field(
        default_factory=DiagnosticsSpec,
        description="What is measured inside the model about how the modes differ",
    )
    preflight: PreflightSpec = Field(
        default_factory=PreflightSpec,
        description="The preflight check of the grader on a few responses",
    )
    overlong_prompts: OverlongPrompts = "fail"
    guards: Guards = "stop"


class TaughtEvaluation(StrictModel):
    """How often all rows of the validation file are measured; at each step only a few are."""

    interval: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="Steps between evaluations, each with a checkpoint; default: each epoch; 0: only the "
        "first and last step",
    )


class SupervisedHyperparameters(CommonHyperparameters):
    """OpenAI's hyperparameters of supervised training."""

    batch_size: Count = Field(
        default="auto",
        description="Rows per step; auto: 0.2 % of them, at least 8 and at most 256",
    )
    n_epochs: Count = Field(
        default="auto",
        description="Passes over the training data; auto: 3, up to 25 for fewer than 34 rows, 1 or 2 for "
        "more than 8,333",
    )
    learning_rate_multiplier: Factor = Field(
        default="auto", description="Factor on 1e-5, or on 1e-4 with lora; auto: 1"
    )


class Supervised(Training):
    """OpenAI's ``hyperparameters``; the other keys are ours."""

    hyperparameters: Annotated[SupervisedHyperparameters, Nullable] = Field(
        default_factory=SupervisedHyperparameters, description="OpenAI's settings"
    )
    modes: Literal["normal", "both"] = Field(
        default="normal",
        description="both: each row also trains under the high-entropy prompt, as a starting point for "
        "policy_split",
    )
    evaluation: TaughtEvaluation = Field(
        default_factory=TaughtEvaluation, description="When to measure the loss on the validation file"
    )
    max_tokens: MaxTokens = None
    overlong_rows: OverlongRows = "fail"


class DpoHyperparameters(SupervisedHyperparameters):
    """OpenAI's hyperparameters of direct preference optimization."""

    learning_rate_multiplier: Factor = Field(
        default="auto", description="Factor on 1e-6, or on 1e-5 with lora; auto: 1"
    )
    beta: Annotated[float, Field(strict=True, gt=0, le=2)] | Auto = Field(
        default="auto",
        description="Penalty per nat of distance from the starting model; auto: 0.1",
    )


class Dpo(Training):
    """OpenAI's ``hyperparameters``; the other keys are ours."""

    hyperparameters: Annotated[DpoHyperparameters, Nullable] = Field(
        default_factory=DpoHyperparameters, description="OpenAI's settings"
    )
    evaluation: TaughtEvaluation = Field(
        default_factory=TaughtEvaluation, description="When to measure the loss on the validation file"
    )
    max_tokens: MaxTokens = None
    overlong_rows: OverlongRows = "fail"


METHODS = ("supervised", "dpo", "reinforcement")


class Method(StrictModel):
    """How to train: the type, and its settings under the same name."""

    type: Literal["supervised", "dpo", "reinforcement"] = Field(
        description="supervised: learn to answer as the rows' assistants do; dpo: learn which of two "
        "answers is preferred; reinforcement: learn from a grader's rewards for the model's "
        "own answers"
    )
    supervised: Supervised | None = Field(
        default=None, description="Settings of a supervised job; default: all defaults"
    )
    dpo: Dpo | None = Field(default=None, description="Settings of a dpo job; default: all defaults")
    reinforcement: Reinforcement | None = Field(
        default=None, description="The grader and settings of a reinforcement job"
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
                    f"the type is {self.type!r}, but settings for {name!r} are given: leave them out, or "
                    "give that type"
                )
        if self.type == "supervised" and self.supervised is None:
            self.supervised = Supervised()
        if self.type == "dpo" and self.dpo is None:
            self.dpo = Dpo()
        if self.type == "reinforcement" and self.reinforcement is None:
            raise ValueError("the type 'reinforcement' needs the key 'reinforcement' with a grader")
        return self

    @property
    def settings(self) -> Supervised | Dpo | Reinforcement:
        """Those of its type."""
        found = self.supervised or self.dpo or self.reinforcement
        assert found is not None, "which the validation has seen to"
        return found


def settings_of(method: Mapping[str, Any]) -> JsonObject:
    """The settings of a stored method."""
    return method.get(method.get("type", "reinforcement"), {})
