"""A step's metrics as the ``data`` of a job event, in the shape of OpenAI's reinforcement metrics events."""

from typing import Any

from trainer.events import StepMetrics

#: Scalars that OpenAI has at the top; null where the step has no such value.
SCALARS = (
    "train_mean_reward",
    "full_valid_mean_reward",
    "completion_tokens_mean",
    "mean_unresponsive_rewards",
)
TIMINGS = ("sampling", "training", "eval", "full_iteration")


def metrics_message(event: StepMetrics) -> str:
    """One line for people."""
    reward = event.values.get("train_mean_reward")
    valid = event.values.get("full_valid_mean_reward")
    parts = [f"Step {event.step}/{event.total_steps}"]
    if reward is not None:
        parts.append(f"training mean reward={reward:.3f}")
    if valid is not None:
        parts.append(f"full validation mean reward={valid:.3f}")
    return f"{parts[0]}: {', '.join(parts[1:])}" if len(parts) > 1 else parts[0]


def metrics_data(event: StepMetrics) -> dict[str, Any]:
    """OpenAI's fields, and under ``values`` every metric of the step by its own name.

    Metric names with a slash are fields of a group there: ``scores/x``, ``usage/x``, ``timing/x`` (seconds),
    ``errors/graders/x``.
    """
    values = event.values
    timing = _group(values, "timing/step/") or _group(values, "timing/")
    return {
        "step": event.step,
        "total_steps": event.total_steps,
        **{name: values.get(name) for name in SCALARS},
        "scores": _group(values, "scores/"),
        "usage": _group(values, "usage/"),
        "errors": {
            "graders": [
                {"name": name, "count": count}
                for name, count in sorted(_group(values, "errors/graders/").items())
            ]
        },
        "timing": {"step": {**dict.fromkeys(TIMINGS), **timing}},
        "values": dict(values),
    }


def _group(values: dict[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
