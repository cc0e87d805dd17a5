"""Watches for what can only waste the machine: numbers that are not finite, and a mode that diverges.

A mode diverges when its entropy doubles while its reward falls. One step of few responses may look like
that by chance, so a step counts only where both changes exceed the noise of its own batch and of the steps
before it, and only ``PATIENCE`` such steps in a row are more than noise. The first ``WARN_AFTER`` of them
are reported. Steps that count do not enter the history: they are compared with the run before them.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from trainer.checkpoints.checkpoint import Counters
from trainer.errors import GuardTripped
from trainer.spec.modes import Mode
from trainer.types import Group

WINDOW = 20
"""Steps that make the history."""
MIN_HISTORY = 5
PATIENCE = 5
WARN_AFTER = 2
ENTROPY_RISE = 2.0
REWARD_DROP = 0.1
SIGMAS = 3.0
"""Of the difference between a step and its history, in standard errors, before it is more than noise."""
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Estimate:
    """A mean over a batch, and its standard error."""

    mean: float
    error: float = 0.0


@dataclass(frozen=True)
class ModeStep:
    """A step's result for one mode: entropy in nats per token, and reward."""

    entropy: Estimate
    reward: Estimate


@dataclass(frozen=True)
class Alarm:
    """A mode diverges. ``lasts``: for so long that it is not noise; ``told``: it was reported before."""

    message: str
    lasts: bool
    told: bool


def check_finite(step: int, loss: float, grad_norm: float) -> None:
    """Raise GuardTripped when the loss or the gradient is not finite."""
    for name, value in (("loss", loss), ("gradient norm", grad_norm)):
        if not math.isfinite(value):
            raise GuardTripped(f"the {name} of step {step} is {value}: training cannot continue")


def observe_modes(groups: Sequence[Group], entropy_T: Mapping[int, Tensor]) -> dict[Mode, ModeStep]:
    """The modes of which the step has both an entropy and a reward, with the noise of both.

    ``entropy_T``: of each group that was scored, by its index, the entropy of each response token under its
    behaviour mode, NaN where unknown; (T,). A mode without a graded response, or without a scored one, is
    absent: the step has no information about it.
    """
    found = {}
    for mode in Mode:
        entropies, rewards = [], []
        for group in groups:
            own_G = group.produced_by(mode)
            rewards_G = group.rewards_G[own_G]
            rewards.append(rewards_G[~rewards_G.isnan()])
            if (of_group := entropy_T.get(group.index)) is not None:
                own_T = of_group[own_G[group.response_of_T]]
                entropies.append(own_T[~own_T.isnan()])
        entropy, reward = batch_mean(entropies), batch_mean(rewards)
        if entropy is not None and reward is not None:
            found[mode] = ModeStep(entropy, reward)
    return found


def batch_mean(prompts: Sequence[Tensor]) -> Estimate | None:
    """The mean over all values, and its standard error with prompts as the unit: responses to one are alike.

    The error is that of a ratio estimator, (C / (C - 1) sum_c (s_c - mean n_c)^2)^(1/2) / sum_c n_c over the
    C prompts' sums s_c and counts n_c. One prompt alone does not show how prompts differ: its values are
    the units then. None without values.
    """
    prompts = [values.double() for values in prompts if values.numel()]
    if len(prompts) == 1:
        prompts = list(prompts[0].split(1))
    if not prompts:
        return None
    sums = torch.stack([values.sum() for values in prompts])
    counts = torch.tensor([values.numel() for values in prompts], dtype=torch.float64)
    total, units = float(counts.sum()), len(prompts)
    mean = float(sums.sum()) / total
    if units == 1:
        return Estimate(mean)
    spread = float((sums - mean * counts).square().sum()) * units / (units - 1)
    return Estimate(mean, math.sqrt(spread) / total)


def watch(step: int, counters: Counters, seen: Mapping[Mode, ModeStep]) -> list[Alarm]:
    """Add ``step`` to the history in ``counters``; the alarms that it raises."""
    alarms = (_watch_mode(step, counters, mode.label, of_mode) for mode, of_mode in seen.items())
    return [alarm for alarm in alarms if alarm is not None]


def _watch_mode(step: int, counters: Counters, mode: str, seen: ModeStep) -> Alarm | None:
    entropies = counters.entropy_history.setdefault(mode, [])
    rewards = counters.reward_history.setdefault(mode, [])
    if len(entropies) < MIN_HISTORY or not _falls_apart(seen, entropies, rewards):
        counters.suspect_steps[mode] = 0
        entropies.append(seen.entropy.mean)
        rewards.append(seen.reward.mean)
        del entropies[:-WINDOW], rewards[:-WINDOW]
        return None
    counters.suspect_steps[mode] = suspect = counters.suspect_steps.get(mode, 0) + 1
    if suspect < WARN_AFTER:
        return None
    return Alarm(
        f"step {step}: for {suspect} steps the entropy of mode {mode} has been at least {ENTROPY_RISE:g} "
        f"times what it was (now {seen.entropy.mean:.3f} nats against a median of "
        f"{statistics.median(entropies):.3f}), and its reward lower (now {seen.reward.mean:.3f} against "
        f"{statistics.median(rewards):.3f})",
        lasts=suspect >= PATIENCE,
        told=suspect not in (WARN_AFTER, PATIENCE),
    )


def _falls_apart(seen: ModeStep, entropies: list[float], rewards: list[float]) -> bool:
    rise = seen.entropy.mean - statistics.median(entropies)
    drop = statistics.median(rewards) - seen.reward.mean
    return (
        rise > (ENTROPY_RISE - 1) * statistics.median(entropies)
        and rise > SIGMAS * math.hypot(seen.entropy.error, _noise(entropies))
        and drop > REWARD_DROP
        and drop > SIGMAS * math.hypot(seen.reward.error, _noise(rewards))
    )


def _noise(history: list[float]) -> float:
    """The standard deviation from step to step: that of the differences, which a trend hardly affects."""
    steps = [abs(after - before) for before, after in pairwise(history)]
    return _MAD_TO_SIGMA * statistics.median(steps) / math.sqrt(2)
