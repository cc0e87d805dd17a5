"""Budgets: when a running job pauses automatically.

They are checked when a worker has read steps of its trainer (``worker.jobs.relay``), and count from the last
resume: resuming a job renews them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The entropy floor is compared with the mean of this many steps: one step's value is noise.
ENTROPY_STEPS = 5
#: Steps in which these are looked for: one whose normal mode was not sampled, or not scored, has no entropy.
ENTROPY_REACH = 10 * ENTROPY_STEPS
ENTROPY_METRIC = "train/N/entropy_nats"
_HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """What a job has used since its budgets began to count. ``entropies`` are the last steps', in nats."""

    steps: int
    seconds: float
    gpus: int
    entropies: Sequence[float]


def used_up(budget: Mapping[str, Any], spent: Spent) -> str | None:
    """Which budget is used up, as a sentence; None when none is."""
    limit = budget.get("pause_after_steps")
    if limit is not None and spent.steps >= limit:
        return f"The budget of {limit} steps is used up."
    limit = budget.get("wall_clock_hours")
    if limit is not None and spent.seconds >= limit * _HOUR:
        return f"The budget of {limit:g} hours is used up: {spent.seconds / _HOUR:.2f} hours of training."
    limit = budget.get("gpu_hours")
    hours = spent.seconds * spent.gpus / _HOUR
    if limit is not None and spent.gpus and hours >= limit:
        return f"The budget of {limit:g} GPU-hours is used up: {hours:.2f} on {spent.gpus} GPU(s)."
    floor = budget.get("entropy_floor")
    recent = list(spent.entropies)[-ENTROPY_STEPS:]
    if floor is not None and len(recent) == ENTROPY_STEPS and sum(recent) / ENTROPY_STEPS < floor:
        mean = sum(recent) / ENTROPY_STEPS
        return (
            f"The normal mode's entropy, {mean:.3f} nats over the last {ENTROPY_STEPS} steps with a "
            f"value, is below the floor of {floor:g}."
        )
    return None


def asks_for_pauses(budget: Mapping[str, object]) -> bool:
    """Whether any budget could pause the job."""
    names = ("pause_after_steps", "wall_clock_hours", "gpu_hours", "entropy_floor")
    return any(budget.get(name) is not None for name in names)
