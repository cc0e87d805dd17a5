"""What jobs that learn from rows measure, under OpenAI's names."""

from collections.abc import Collection, Mapping

#: OpenAI's name to the trainer's. ``valid``: a few rows of the validation file; ``full_valid``: all of them.
LOSSES = {
    "train_loss": "train/loss",
    "train_mean_token_accuracy": "train/token_accuracy",
    "valid_loss": "valid/loss",
    "valid_mean_token_accuracy": "valid/token_accuracy",
    "full_valid_loss": "eval/loss",
    "full_valid_mean_token_accuracy": "eval/token_accuracy",
}
#: What every step, or an evaluation before the first, of such a job has, and no other job.
_TOLD_BY = ("train/token_accuracy", "eval/token_accuracy")


def learns_from_rows(names: Collection[str]) -> bool:
    """Whether these are the names of such a job's metrics."""
    return any(name in names for name in _TOLD_BY)


def losses(values: Mapping[str, float]) -> dict[str, float | None]:
    """:data:`LOSSES` from the trainer's values; None where the step has no such value."""
    return {name: values.get(ours) for name, ours in LOSSES.items()}
