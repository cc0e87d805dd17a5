"""Rollout sharing: which mode's prompt each response is trained under (Policy Split, section 3.2).

A group's responses come from both modes and every one can be scored under both prompts:

====  ===========  ==============
row   prompt mode  behaviour mode
====  ===========  ==============
Q1    N            N
Q2    H            H
Q3    N            H
Q4    H            N
====  ===========  ==============

The advantage type follows the prompt mode, never the producer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.spec.modes import Mode

Sharing = Literal["both", "h_to_n", "n_to_h", "none", "none_pooled"]


@dataclass(frozen=True)
class Row:
    """Train the group's response ``response`` under the prompt of ``prompt_mode``."""

    response: int
    prompt_mode: Mode
    behavior_mode: Mode

    @property
    def cross(self) -> bool:
        """Whether another mode than the prompt's produced the response (Q3, Q4)."""
        return self.prompt_mode is not self.behavior_mode


def pair_rows(behavior_modes: Sequence[Mode], sharing: Sharing) -> list[Row]:
    """All rows of a group: the own rows, and the cross rows that ``sharing`` allows."""
    rows: list[Row] = []
    for response, behavior in enumerate(behavior_modes):
        rows.append(Row(response, behavior, behavior))
        shared = sharing == "both" or sharing == ("n_to_h" if behavior is Mode.NORMAL else "h_to_n")
        if shared:
            rows.append(Row(response, behavior.other, behavior))
    return rows
