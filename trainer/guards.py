"""Stops a run that can only waste the machine, with the number that says why."""

import math
import statistics

from trainer.checkpoint import Counters
from trainer.errors import GuardTripped

WINDOW = 20
MIN_HISTORY = 5
REWARD_DROP = 0.1


def check_finite(step: int, loss: float, grad_norm: float) -> None:
    """Raise GuardTripped when the loss or the gradient is not finite."""
    for name, value in (("loss", loss), ("gradient norm", grad_norm)):
        if not math.isfinite(value):
            raise GuardTripped(f"the {name} of step {step} is {value}: training cannot go on")


def check_collapse(step: int, counters: Counters, mode: str, entropy: float, reward: float) -> None:
    """Raise GuardTripped when a mode's entropy doubles against its 20-step median while its reward falls.

    Also records the step in ``counters``.
    """
    entropies = counters.entropy_history.setdefault(mode, [])
    rewards = counters.reward_history.setdefault(mode, [])
    if len(entropies) >= MIN_HISTORY:
        usual_entropy, usual_reward = statistics.median(entropies), statistics.median(rewards)
        if entropy > 2 * usual_entropy and reward < usual_reward - REWARD_DROP:
            raise GuardTripped(
                f"step {step}: the entropy of mode {mode} is {entropy:.3f} nats against a median of "
                f"{usual_entropy:.3f}, and its reward {reward:.3f} against {usual_reward:.3f}: it diverged"
            )
    entropies.append(entropy)
    rewards.append(reward)
    del entropies[:-WINDOW], rewards[:-WINDOW]
