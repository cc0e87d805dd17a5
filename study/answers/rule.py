"""The rule for two modes against one mode with uniqueness (PREREGISTRATION.md, point 2)."""

from collections.abc import Mapping
from typing import Any

from study.answers.design import ACCURACY, VARIETY, Outcome

#: A claim as an analysis has it.
Claim = Mapping[str, Any]


def two_modes_beat_one(variety: Claim | None, accuracy: Claim | None) -> tuple[bool | None, list[str]]:
    """Whether they do on a task, and why; None where nothing may be said yet.

    Args:
        variety: the claim about the high-entropy mode's different right answers; None without results.
        accuracy: the same pair's about the normal mode's accuracy.
    """
    if variety is None or accuracy is None or any(one["withheld"] for one in (variety, accuracy)):
        return None, ["runs have not ended"]
    found = ((VARIETY, variety), (ACCURACY, accuracy))
    said = [_says(outcome, claim) for outcome, claim in found]
    better = [claim["winner"] == claim["method"] for _, claim in found]
    no_worse = [claim["adjusted_low"] > -outcome.margin for outcome, claim in found]
    return (better[0] and no_worse[1]) or (better[1] and no_worse[0]), said


def _says(outcome: Outcome, claim: Claim) -> str:
    if claim["winner"] == claim["method"]:
        verdict = "better"
    elif claim["winner"] is not None:
        verdict = "worse"
    elif claim["adjusted_low"] > -outcome.margin:
        verdict = f"not worse by {outcome.margin:g}"
    else:
        verdict = f"not shown to be better, nor to be not worse by {outcome.margin:g}"
    return f"{outcome.words}: {verdict}"
