"""The source of the demo's grader: is the response one of the names that the item knows?

It runs in the sandbox, so it imports nothing of ours.
"""

import re


def answer(sample: dict, item: dict) -> str | None:
    """The first line without its article, capitals and marks: "A Rose." and "rose" are the same answer."""
    first = sample["output_text"].strip().partition("\n")[0]
    return re.sub(r"^(an?|the) ", "", first.lower().strip(" .!*\"'")) or None


def grade(sample: dict, item: dict) -> float:
    """1 for one of the names alone, a part of it for a sentence with one: a small model starts there."""
    if answer(sample, item) in item["names"]:
        return 1.0
    named = "|".join(map(re.escape, item["names"]))
    return 0.3 if re.search(rf"\b({named})\b", sample["output_text"].lower()) else 0.0
