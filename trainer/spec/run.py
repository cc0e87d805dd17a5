"""The specification of a training run: everything that determines it, as one JSON document.

``python -m trainer --spec spec.json --run-dir DIR`` runs it; the service writes the same document from a
job's row. Torch-free. The defaults of ``policy_split`` are the paper's (arXiv 2604.11510, section 4).
"""

from typing import Annotated, Literal, cast

from pydantic import AfterValidator, Field, JsonValue, model_validator

from trainer.graders.answers import REMEDY, gives_answers
from trainer.graders.response_format import ResponseFormat
from trainer.graders.spec import Grader, StrictModel
from trainer.spec.algorithm import AlgorithmSpec, Objective, PolicySplit
from trainer.spec.data import Data
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.model import LoraSpec, ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Placement
from trainer.spec.resources import DEFAULT_RESOURCES, Resources
from trainer.spec.rollout import VLLM_LOWEST_TEMPERATURE, RolloutSpec
from trainer.spec.taught import Dpo, Supervised, Taught, check_taught

#: Names that are not variables of a chat template, but arguments of ``apply_chat_template``.
TEMPLATE_ARGUMENTS = frozenset(
    {
        *("conversation", "messages", "tools", "documents", "chat_template", "tokenize", "tokenizer_kwargs"),
        *("add_generation_prompt", "continue_final_message", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask"),
    }
)


class OptimizerSpec(StrictModel):
    """AdamW."""

    learning_rate: float = Field(
        default=3e-6, gt=0, le=100, description="Learning rate after warm-up, constant from then on"
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Steps over which the learning rate rises from 0 to learning_rate",
    )
    weight_decay: float = Field(
        default=1e-2, ge=0, le=100, description="Decay of the weights, decoupled from the gradient"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay rate of the gradients' running mean")
    beta2: float = Field(
        default=0.999, ge=0, lt=1, description="Decay rate of the squared gradients' running mean"
    )
    epsilon: float = Field(default=1e-8, gt=0, le=1, description="Added to the root of the mean square")
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1e9, description="Gradients with a larger norm are scaled down to it"
    )
    updates_per_batch: int = Field(
        default=1, ge=1, le=10_000, description="Optimizer steps on each batch of rollouts"
    )
    tokens_per_micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Maximum tokens per forward and backward pass, or a single longer response: an "
        "update's memory grows with it, however many responses a prompt has. A prompt with "
        "more is trained in parts, after a scoring pass if the algorithm needs one; gradients "
        "are the same. Default 16,384; prompts are combined up to 4,096, beyond which "
        "computing is hardly faster",
    )
    sharding: Literal["sharded", "replicated"] = Field(
        default="sharded",
        # Left out at its default, so that an older worker can read the document.
        exclude_if=lambda sharding: sharding == "sharded",
        description="With several processes: sharded keeps a shard of the weights, gradients and moments "
        "in each (FSDP); replicated keeps all of them in each, which needs less communication. A "
        "single process has them all either way",
    )
    moments: Literal["float32", "int8"] = Field(
        default="float32",
        exclude_if=lambda moments: moments == "float32",
        description="How AdamW's two moments of each weight are kept: float32, 8 bytes together; int8: 2 "
        "bytes, in blocks with a scale each, for matrices. Updates then differ by rounding",
    )
    offload: bool = Field(
        default=False,
        exclude_if=lambda offload: not offload,
        description="Keep the moments in the host's memory, from which they come to the GPU slice by slice "
        "at each update. Results are the same, an update takes longer; without a GPU it has no effect",
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_an_earlier_field(cls, values: object) -> object:
        # Documents from before rows were the unit have it as null: as many prompts as have 4,096 positions.
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, object]", values)
        if given.get("groups_per_micro_batch", 0) is not None:
            return given
        return {name: value for name, value in given.items() if name != "groups_per_micro_batch"}


class CheckpointSpec(StrictModel):
    """Checkpoints are also written at the end and when the run is told to stop."""

    interval: int = Field(
        default=0, ge=0, lt=2**31, description="Steps between checkpoints; 0: only at the end"
    )
    keep_best: int = Field(
        default=3,
        ge=0,
        le=10_000,
        description="Number of best checkpoints to keep besides the last; the others' weights are removed",
    )
    select: Literal["last", "best"] | None = Field(
        default=None,
        description="The checkpoint that is the run's result: the last one, or the best by metric among "
        "those evaluated when saved; default: best with validation data, last without",
    )
    metric: str = Field(
        default="eval/N/reward",
        pattern=r"^eval/([NH]/(reward|accuracy|(pass|maj)@[1-9]\d{0,3})|mix/pass@[1-9]\d{0,3})$",
        description="The validation metric by which the best is chosen and kept: eval/N/… or eval/H/… "
        "with reward, accuracy, pass@K or maj@K; or eval/mix/pass@K",
    )


class DiagnosticsSpec(StrictModel):
    """Measurements inside the model. They never affect training.

    At their defaults they cost about 3 % of step time (``benchmarks/diagnostics_cost.py``).
    """

    interval: int = Field(
        default=50,
        ge=0,
        lt=2**31,
        description="Steps between probes, from the first on; 0: never",
    )
    probe_items: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Prompts in the fixed probe set, from the validation data if there is any",
    )
    which: list[Literal["hidden_states", "gradients"]] = Field(
        default=["hidden_states", "gradients"],
        description="hidden_states: how similar the modes' layers are; gradients: whether the modes' "
        "gradients agree (needs memory for four more float32 copies of the trained weights)",
    )
    divergence_stride: int = Field(
        default=8,
        ge=0,
        lt=2**31,
        description="Inter-mode KL and JS at every n-th response token of each step; 1: all; 0: never",
    )


class PreflightSpec(StrictModel):
    """A check of the grader before training: it must work, and tell a prompt's responses apart."""

    samples: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Maximum number of responses; usually the first 16 are enough. 0: train without the "
        "check",
    )
    on_zero_variance: Literal["fail", "warn"] = Field(
        default="fail", description="What to do if no prompt has responses with different rewards"
    )


def _not_ours(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if taken := sorted(TEMPLATE_ARGUMENTS & options.keys()):
        raise ValueError(
            f"{taken[0]!r} is set by the trainer itself; give variables that the chat template reads, "
            "such as enable_thinking"
        )
    return options


ChatTemplateKwargs = Annotated[dict[str, JsonValue], AfterValidator(_not_ours)]


OverlongPrompts = Annotated[
    Literal["fail", "drop"],
    Field(
        description="What to do before training with rows whose prompt is longer than "
        "rollout.max_prompt_tokens or leaves no room for the response in the model's context: "
        "fail: name them; drop: leave them out and report which"
    ),
]
Guards = Annotated[
    Literal["stop", "warn", "off"],
    Field(
        description="If a mode's entropy doubles while its reward falls, for several steps and beyond the "
        "noise of their batches: stop: warn, then save a checkpoint and end the run; warn: "
        "only report it; off: do not check. A non-finite loss or gradient always ends the run"
    ),
]


class RunSpec(StrictModel):
    """One training run."""

    run_id: str = Field(min_length=1)
    model: ModelSpec
    training_data: Data
    validation_data: Data | None = None
    grader: Grader | None = Field(
        description="None where a reward function is given (trainer.api.train), and where rows teach"
    )
    algorithm: Annotated[AlgorithmSpec | Supervised | Dpo, Field(discriminator="type")] = Field(
        default_factory=PolicySplit
    )
    high_entropy_prompt: str = DEFAULT_HIGH_ENTROPY_PROMPT
    high_entropy_placement: Placement = "system"
    chat_template_kwargs: ChatTemplateKwargs = Field(
        default_factory=dict, description="Variables of the chat template, such as enable_thinking"
    )
    lora: LoraSpec | None = Field(default=None, description="Train adapters; default: all weights")
    response_format: ResponseFormat | None = Field(
        default=None,
        description="The format answers must have: one that does not match, or is not JSON, gets the "
        "reward 0 and counts in train/{N,H}/parse_error",
    )
    rollout: RolloutSpec = Field(default_factory=RolloutSpec)
    optimizer: OptimizerSpec = Field(default_factory=OptimizerSpec)
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    diagnostics: DiagnosticsSpec = Field(default_factory=DiagnosticsSpec)
    preflight: PreflightSpec | None = Field(
        default=None, description="None: train without the check; jobs of the service have one"
    )
    overlong_prompts: OverlongPrompts = "fail"
    guards: Guards = "stop"
    total_steps: int = Field(
        ge=0, lt=2**31, description="0: only evaluate the model, and save it as a checkpoint"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    resources: Resources = Field(
        default=DEFAULT_RESOURCES,
        # Left out at its default, so that an older worker can read the document.
        exclude_if=lambda its: its == DEFAULT_RESOURCES,
        description="What it is computed on: for launchers, which tell each rank by its environment",
    )

    @model_validator(mode="after")
    def _modes_fit_the_group(self) -> "RunSpec":
        check_group(self.algorithm, self.rollout.samples_per_prompt)
        return self

    @model_validator(mode="after")
    def _the_grader_knows_answers(self) -> "RunSpec":
        # The library's reward functions are checked when the run is built.
        if self.algorithm.needs_answers and self.grader is not None and not gives_answers(self.grader):
            raise ValueError(
                f"{self.algorithm.type} prefers answers that few responses give, but the grader of type "
                f"{self.grader.type!r} does not extract answers: {REMEDY}"
            )
        return self

    @model_validator(mode="after")
    def _forms_can_be_forced(self) -> "RunSpec":
        if not self.rollout.force_response_format:
            return self
        if self.response_format is None or not self.response_format.restricts:
            raise ValueError(
                "rollout.force_response_format is true, but there is no response_format to enforce: give "
                "one of the type 'json_schema' or 'json_object', or false"
            )
        if isinstance(self.algorithm, Objective) and self.algorithm.rollout_importance_cap == 0:
            raise ValueError(
                "algorithm.rollout_importance_cap is 0, but with rollout.force_response_format responses "
                "do not follow the model's own distribution, which only these weights correct: leave it "
                "out, or give a number above 0"
            )
        return self

    @property
    def selects(self) -> Literal["last", "best"]:
        """Which checkpoint is the result."""
        return self.checkpoint.select or ("last" if self.validation_data is None else "best")

    @property
    def best_metric(self) -> tuple[str, Literal["highest", "lowest"]]:
        """What the best checkpoint is chosen by, and which value is the best."""
        taught = isinstance(self.algorithm, Taught)
        return ("eval/loss", "lowest") if taught else (self.checkpoint.metric, "highest")

    @model_validator(mode="after")
    def _rows_teach(self) -> "RunSpec":
        if isinstance(self.algorithm, Taught):
            check_taught(self)
        return self

    @model_validator(mode="after")
    def _best_can_be_told(self) -> "RunSpec":
        if self.checkpoint.select == "best" and self.validation_data is None:
            raise ValueError(
                "checkpoint.select is 'best', but there is no validation data to choose it by: give "
                "validation data, or 'last'"
            )
        if isinstance(self.algorithm, Taught):
            return self
        _, mode, name = self.checkpoint.metric.split("/")
        splits = isinstance(self.algorithm, PolicySplit) and self.algorithm.high_entropy_samples != 0
        if mode != "N" and not splits:
            raise ValueError(
                f"checkpoint.metric is {self.checkpoint.metric!r}, but this run only samples from the "
                "normal mode: give a metric of eval/N"
            )
        most = self.evaluation.samples_per_item * (2 if mode == "mix" else 1)
        k = int(name.partition("@")[2] or 1)
        if k > most or k & (k - 1) or (mode == "mix" and k == 1):
            raise ValueError(
                f"checkpoint.metric is {self.checkpoint.metric!r}, but with evaluation.samples_per_item "
                f"{self.evaluation.samples_per_item} such metrics exist for powers of two up to {most}"
            )
        if name.startswith("maj@") and self.grader is not None and not self.has_votes:
            raise ValueError(
                f"checkpoint.metric is {self.checkpoint.metric!r}, but the grader of type "
                f"{self.grader.type!r} does not extract answers: {REMEDY}, or give "
                "evaluation.embedding_model"
            )
        return self

    @property
    def has_votes(self) -> bool:
        """Whether an evaluation can count votes, by its grader or by embeddings."""
        by_grader = self.grader is not None and gives_answers(self.grader)
        return by_grader or self.evaluation.embedding_model is not None

    @model_validator(mode="after")
    def _vllm_takes_the_temperatures(self) -> "RunSpec":
        temperatures = {"rollout": self.rollout.temperature, "evaluation": self.evaluation.temperature}
        for name, value in temperatures.items():
            if self.rollout.engine == "vllm" and 0 < value < VLLM_LOWEST_TEMPERATURE:
                raise ValueError(
                    f"{name}.temperature is {value}, which vLLM would raise to {VLLM_LOWEST_TEMPERATURE}: "
                    "give that or more, or rollout.engine 'transformers'"
                )
        return self

    @model_validator(mode="after")
    def _greedy_samples_are_one(self) -> "RunSpec":
        if self.evaluation.temperature == 0 and self.evaluation.samples_per_item > 1:
            raise ValueError(
                f"evaluation.samples_per_item is {self.evaluation.samples_per_item}, but at evaluation."
                "temperature 0 all samples of an item are the same: give 1 sample, or a temperature above 0"
            )
        return self

    @model_validator(mode="after")
    def _embeddings_have_something_to_compare(self) -> "RunSpec":
        if self.evaluation.embedding_model is not None:
            if self.validation_data is None:
                raise ValueError(
                    "evaluation.embedding_model is given, but there is no validation data for it: give "
                    "validation data, or leave it out"
                )
            if self.evaluation.samples_per_item < 2:
                raise ValueError(
                    "evaluation.embedding_model compares an item's responses with each other, but evaluation."
                    f"samples_per_item is {self.evaluation.samples_per_item}: give 2 or more, or leave it out"
                )
        return self


def check_group(algorithm: AlgorithmSpec | Taught, samples_per_prompt: int) -> None:
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
