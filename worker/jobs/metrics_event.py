"""A step's metrics in the shape of OpenAI's metrics events.

The trainer names metrics by mode (``train/N/reward``, ``eval/H/reward``); OpenAI's job has one mode. Of the
rollouts that a step trains on, the one number is the mean of the modes. Of the validation it is the normal
mode's, because that is how the finished model answers unless it is asked otherwise. What graders did is in
``worker.jobs.grader_events``. Jobs that learn from rows have losses in the place of all that.
"""

from collections.abc import Collection, Mapping

from app.jobs.losses import LOSSES, learns_from_rows, losses
from trainer.spec.events import StepMetrics
from trainer.spec.modes import Mode
from worker.jobs.grader_events import (
    errors_by_grader,
    reasoning_tokens,
    scores_by_grader,
    seconds_by_grader,
    tokens_by_grader,
    tokens_by_model,
)

_REWARDS = (
    "train_mean_reward",
    "full_valid_mean_reward",
    "completion_tokens_mean",
    "mean_unresponsive_rewards",
)
_LOSS_NAMES = {
    "training loss": "train_loss",
    "validation loss": "valid_loss",
    "full validation loss": "full_valid_loss",
}
#: OpenAI's name to ours, seconds.
_TIMINGS = {
    "sampling": "time/generate",
    "training": "time/forward_backward",
    "eval": "time/evaluate",
    "full_iteration": "train/step_seconds",
}
_USAGE = {"tokens_generated": "train/tokens_generated", "tokens_trained": "train/tokens_trained"}
#: Where the job has a ``response_format``.
_PARSE_ERROR = f"eval/{Mode.NORMAL.label}/parse_error"
_UNRESPONSIVE = "train/grader_errors/unresponsive_reward_error"


def scalar_names(metrics: Collection[str]) -> tuple[str, ...]:
    """The scalars at the top of an event's data and the first columns of the result file."""
    return tuple(LOSSES) if learns_from_rows(metrics) else _REWARDS


def scalars(values: Mapping[str, float]) -> dict[str, float | None]:
    """The scalars from the trainer's values; None where the step has no such value."""
    if learns_from_rows(values):
        return losses(values)
    return {
        "train_mean_reward": _mean_of_modes(values, "train/{}/reward"),
        "full_valid_mean_reward": values.get(f"eval/{Mode.NORMAL.label}/reward"),
        "completion_tokens_mean": _mean_of_modes(values, "train/{}/length"),
        "mean_unresponsive_rewards": _unresponsive(values),
    }


def metrics_message(event: StepMetrics) -> str:
    """One line for people."""
    step, top = f"Step {event.step}/{event.total_steps}", scalars(event.values)
    if learns_from_rows(event.values):
        measured = {name: top[key] for name, key in _LOSS_NAMES.items()}
        parts = [f"{name}={value:.4g}" for name, value in measured.items() if value is not None]
        return f"{step}: {', '.join(parts)}" if parts else step
    named = {"training": top["train_mean_reward"], "full validation": top["full_valid_mean_reward"]}
    parts = [f"{name} mean reward={value:.3f}" for name, value in named.items() if value is not None]
    if (missed := event.values.get(_PARSE_ERROR)) is not None:
        parts.append(f"full validation mean parse error={missed:.2f}")
    return f"{step}: {', '.join(parts)}" if parts else step


def metrics_data(event: StepMetrics) -> dict[str, object]:
    """OpenAI's fields; ``values``: every metric of the step by the trainer's own name; its ``digest``."""
    values, top = event.values, scalars(event.values)
    own = {"values": dict(values), "digest": event.digest.model_dump() if event.digest else None}
    if learns_from_rows(values):
        return {"step": event.step, "total_steps": event.total_steps, **top, **own}
    samples = reasoning_tokens(event)
    return {
        "step": event.step,
        "total_steps": event.total_steps,
        **top,
        **({"full_valid_mean_parse_error": values[_PARSE_ERROR]} if _PARSE_ERROR in values else {}),
        "reasoning_tokens_mean": samples["train_reasoning_tokens_mean"],
        "valid_reasoning_tokens_mean": samples["valid_reasoning_tokens_mean"],
        "scores": {
            "graders": list(scores_by_grader(event)),
            "train_reward_mean": top["train_mean_reward"],
            "valid_reward_mean": top["full_valid_mean_reward"],
        },
        "usage": {
            "graders": list(tokens_by_grader(event)),
            "samples": samples,
            **{name: values[ours] for name, ours in _USAGE.items() if ours in values},
        },
        "model_graders_token_usage": tokens_by_model(event),
        "errors": {"graders": list(errors_by_grader(event))},
        "timing": {
            "step": {name: values.get(ours) for name, ours in _TIMINGS.items()},
            "graders": list(seconds_by_grader(event)),
        },
        **own,
    }


def _mean_of_modes(values: Mapping[str, float], pattern: str) -> float | None:
    found = [values[name] for mode in Mode if (name := pattern.format(mode.label)) in values]
    return sum(found) / len(found) if found else None


def _unresponsive(values: Mapping[str, float]) -> float | None:
    """The share of responses whose reward did not come in time."""
    responses = values.get("train/samples_generated")
    return values.get(_UNRESPONSIVE, 0.0) / responses if responses else None
