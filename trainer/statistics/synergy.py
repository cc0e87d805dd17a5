"""The rule for claiming that two modes help each other (design notes, section 3).

Policy Split must be better than each of three simpler things, and must get worse when the high-entropy mode
stops training halfway. Where that is not shown, the simpler thing may do as much, and the report says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # scipy, which who asks for the controls' names alone need not wait for
    from trainer.statistics.comparison import Comparison

#: The controls that Policy Split must beat, and what each does instead.
CONTROLS = {
    "grpo_2x": "training every response twice",
    "single_entropy": "having the bonus in one mode alone",
    "prompt_only": "having the two prompts without the bonus",
    "freeze_loss": "ending the high-entropy mode's training halfway",
}


@dataclass(frozen=True)
class Synergy:
    """``claimed`` is None where no control speaks against it, but not all have seeds enough."""

    claimed: bool | None
    reasons: tuple[str, ...]


def synergy(against: Mapping[str, "Comparison | None"]) -> Synergy:
    """Apply the rule to Policy Split's comparisons with its controls, by the control's ablation.

    ``against["grpo_2x"]`` is policy_split - grpo_2x, and so on, as judged in the family that each belongs to.
    """
    reasons: list[str] = []
    missing: list[str] = []
    for name, simpler in CONTROLS.items():
        one = against.get(name)
        if one is None or one.withheld is not None or not one.has_seeds_enough:
            missing.append(name)
        elif one.winner != one.method:
            seen = f"{one.baseline} ({one.words})"
            reasons.append(
                f"worse than {seen}: {simpler} does more"
                if one.winner == one.baseline
                else f"not shown to be better than {seen}: {simpler} may do as much"
            )
    if reasons:
        return Synergy(False, tuple(reasons))
    if missing:
        return Synergy(
            None, (f"no result, too few seeds, or runs that have not ended: {', '.join(missing)}",)
        )
    return Synergy(True, ("better than every control, and worse when the high-entropy mode is frozen",))
