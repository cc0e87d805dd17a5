"""Mathematical answers: found in a response, read as a whole or not at all, and compared.

Pure functions of texts, which call sympy; they see what strangers wrote and run in a sandbox alone.
"""

import json

from ..supervisor import Handle, Prepare


def load(_setup: dict[str, object]) -> Prepare:
    from .comparison import compare

    compare({"text": "\\boxed{1}", "reference": "\\sqrt{2}"})  # imports what takes a second
    return _prepared


def _prepared() -> Handle:
    from .comparison import compare, reference_problems

    def handle(question: bytes) -> dict[str, object]:
        asked = json.loads(question)
        return reference_problems(asked["references"]) if "references" in asked else compare(asked)

    return handle
