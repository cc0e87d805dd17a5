"""The source of the demo's grader: is the response one whole number from the item's range?

It runs in the sandbox, so it imports nothing of ours.
"""

import re


def answer(sample: dict, item: dict) -> str | None:
    """The only whole number of the response, without leading zeros; none where there are two."""
    found = re.findall(r"-?\d+", sample["output_text"])
    return str(int(found[0])) if len(found) == 1 else None


def grade(sample: dict, item: dict) -> float:
    """1 for a number of the range alone, a tenth for another number alone: a small model starts there."""
    alone = re.fullmatch(r"\s*(\d+)\s*\.?\s*", sample["output_text"])
    if alone is None:
        return 0.0
    return 1.0 if item["low"] <= int(alone[1]) <= item["high"] else 0.1
