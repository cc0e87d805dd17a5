"""The specification of a training run: everything that determines it, as one JSON document.

``python -m trainer --spec spec.json --run-dir DIR`` runs it; the service writes the same document from a
job's row. Torch-free. The defaults of ``policy_split`` are the paper's (arXiv 2604.11510, section 4).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.algorithm_spec import AlgorithmSpec, PolicySplit
from trainer.graders.spec import Grader, StrictModel
from trainer.modes import DEFAULT_HIGH_ENTROPY_PROMPT


class ModelSpec(StrictModel):
    """A model folder in Hugging Face format: a base, or the checkpoint of an earlier run."""

    path: str
    dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Precision of the weights in use; the optimizer keeps float32 masters"
    )


class JsonlData(StrictModel):
    """A JSONL file: one object a line with ``messages``; the other keys are the grader's ``item``."""

    type: Literal["jsonl"] = "jsonl"
    path: str


class EnvironmentData(StrictModel):
    """Items drawn from a reasoning-gym task with its own parameters."""

    type: Literal["environment"] = "environment"
    task: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    size: int = Field(default=1000, ge=1, le=10_000_000)
    seed: int = 0
    instruction: str = Field(default="", description="Text put after each question, e.g. the answer format")


Data = Annotated[JsonlData | EnvironmentData, Field(discriminator="type")]


class RolloutSpec(StrictModel):
    """How a step's samples are drawn."""

    prompts_per_step: int = Field(default=8, ge=1)
    samples_per_prompt: int = Field(default=8, ge=2, description="G, over both modes together")
    max_prompt_tokens: int = Field(default=1024, ge=1)
    max_response_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    engine: Literal["transformers"] = "transformers"


class OptimizerSpec(StrictModel):
    """AdamW."""

    learning_rate: float = Field(default=3e-6, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    updates_per_batch: int = Field(default=1, ge=1, description="Optimizer steps on each batch of rollouts")
    groups_per_micro_batch: int = Field(default=1, ge=1, description="Prompts in one forward and backward")


class EvaluationSpec(StrictModel):
    """Evaluation of both modes on the validation data; also at the first and the last step."""

    interval: int = Field(default=0, ge=0, description="Every how many steps; 0: first and last only")
    max_items: int = Field(default=64, ge=1)
    samples_per_item: int = Field(default=1, ge=1, description="Per mode")
    temperature: float = Field(default=1.0, gt=0)


class CheckpointSpec(StrictModel):
    """Checkpoints are also written at the end and when the run is asked to stop."""

    interval: int = Field(default=0, ge=0, description="Every how many steps; 0: the end only")
    keep_best: int = Field(default=3, ge=0)


class RunSpec(StrictModel):
    """One training run."""

    run_id: str = Field(min_length=1)
    model: ModelSpec
    training_data: Data
    validation_data: Data | None = None
    grader: Grader
    algorithm: AlgorithmSpec = Field(default_factory=PolicySplit)
    high_entropy_prompt: str = DEFAULT_HIGH_ENTROPY_PROMPT
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    total_steps: int = Field(ge=0, description="0: evaluate the model as it is, and save it as a checkpoint")
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _modes_fit_the_group(self) -> "RunSpec":
        check_group(self.algorithm, self.rollout.samples_per_prompt)
        return self


def check_group(algorithm: AlgorithmSpec, samples_per_prompt: int) -> None:
    """Raise ValueError unless ``samples_per_prompt`` can be divided over the algorithm's modes."""
    if not isinstance(algorithm, PolicySplit):
        return
    chosen = algorithm.high_entropy_samples
    if chosen is None and samples_per_prompt % 2:
        raise ValueError(
            f"rollout.samples_per_prompt is {samples_per_prompt}, but policy_split samples half of each "
            "group in each mode: give an even number, or set algorithm.high_entropy_samples"
        )
    if chosen is not None and chosen > samples_per_prompt:
        raise ValueError(
            f"algorithm.high_entropy_samples is {chosen}, more than rollout.samples_per_prompt "
            f"({samples_per_prompt}): give a number from 0 to {samples_per_prompt}"
        )
