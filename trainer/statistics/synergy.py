"""The rule for claiming that two modes help each other (design notes, section 3).

Policy Split must be better than each of three simpler things, and must get worse when the high-entropy mode
stops training halfway. Where it is not, the simpler explanation is what the evidence supports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.statistics.wording import with_interval

if TYPE_CHECKING:  # scipy, which who asks for the controls' names alone need not wait for
    from trainer.statistics.comparison import Comparison

#: The controls that Policy Split must beat, and what it means when it does not.
EXPLANATIONS = {
    "grpo_2x": "training every response twice does as much: the gain, if any, is that of more compute",
    "single_entropy": "the same bonus in one mode does as much: a second mode is not needed for it",
    "prompt_only": "the two prompts without the bonus do as much: the entropy term is not needed for it",
    "freeze_loss": "nothing is lost when the high-entropy mode stops training halfway: it does not go on "
    "helping the normal mode",
}


@dataclass(frozen=True)
class Synergy:
    """``claimed`` is None where no control speaks against it, but not all have seeds enough."""

    claimed: bool | None
    reasons: tuple[str, ...]


def synergy(against: Mapping[str, "Comparison | None"]) -> Synergy:
    """Apply the rule to Policy Split's comparisons with its controls, by the control's ablation.

    ``against["grpo_2x"]`` is policy_split - grpo_2x, and so on; corrected by Holm over these beforehand.
    """
    reasons, missing = [], []
    for name, explanation in EXPLANATIONS.items():
        one = against.get(name)
        if one is None or not one.has_seeds_enough:
            missing.append(name)
        elif one.winner != one.method:
            seen = with_interval(one.delta, one.low, one.high)
            reasons.append(f"not better than {one.baseline} ({seen}): {explanation}")
    if reasons:
        return Synergy(False, tuple(reasons))
    if missing:
        return Synergy(None, (f"no result, or too few seeds, of {', '.join(missing)}",))
    return Synergy(True, ("better than every control, and worse when the high-entropy mode is frozen",))
