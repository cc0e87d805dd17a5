"""The options of methods that learn from rows with answers. Torch-free."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.graders.spec import StrictModel

if TYPE_CHECKING:
    from trainer.spec.run import RunSpec

OverlongRows = Annotated[
    Literal["fail", "drop"],
    Field(
        description="What to do before training with rows that have more tokens than max_tokens or the "
        "model's context: fail: name them; drop: leave them out and report which"
    ),
]
MaxTokens = Annotated[
    int | None,
    Field(ge=2, le=10_000_000, description="Maximum tokens per row; default: the model's context"),
]


class Taught(StrictModel):
    """Common to these methods."""

    batch_size: int = Field(default=8, ge=1, le=1_000_000, description="Rows per step")
    max_tokens: MaxTokens = None
    overlong_rows: OverlongRows = "fail"

    @property
    def needs_answers(self) -> bool:
        """Whether a grader must extract answers from responses."""
        return False


class Supervised(Taught):
    """Learns to say what the rows' assistants say: the mean negative log-probability of their tokens is
    minimised."""

    type: Literal["supervised"] = "supervised"
    modes: Literal["normal", "both"] = Field(
        default="normal",
        description="Prompts under which each row trains: as it is, or also under the high-entropy "
        "prompt, as a starting point for policy_split",
    )


class Dpo(Taught):
    """Direct preference optimization (arXiv 2305.18290): one answer is preferred to another.

    The reference is the starting model.
    """

    type: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0, le=2, description="Penalty per nat of distance from the reference")


def check_taught(spec: "RunSpec") -> None:
    """Raise ValueError unless there are files of rows, and no settings for rewards or sampling."""
    name = spec.algorithm.type
    for param in ("training_data", "validation_data"):
        data = getattr(spec, param)
        if data is not None and data.type != "jsonl":
            raise ValueError(
                f"{param} is of the type {data.type!r}, but {name} learns from the rows of a file: give data "
                "of the type 'jsonl'"
            )
    if spec.optimizer.updates_per_batch != 1:
        raise ValueError(
            f"optimizer.updates_per_batch is {spec.optimizer.updates_per_batch}, but {name} iterates over "
            "its rows by epochs: leave it out"
        )
    for param in ("grader", "response_format"):
        if getattr(spec, param) is not None:
            raise ValueError(f"{param} is given, but {name} has no rewards: leave it out")
    if spec.checkpoint.metric != type(spec.checkpoint).model_fields["metric"].default:
        raise ValueError(
            f"checkpoint.metric is {spec.checkpoint.metric!r}, but {name} only measures the validation "
            "loss: leave it out"
        )
