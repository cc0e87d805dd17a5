"""What is the same as mathematics, case by case, beside the package math-verify: writes docs/mathematics.md.

    python -m benchmarks.mathematics

The cases are tests/fixtures/mathematics.py. math-verify has its defaults, its own time limits too; a
reference without marks of mathematics stands between dollar signs, as its documentation wants it.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.mathematics import CASES, COUNT
from trainer.sandbox.inside.mathematics.comparison import compare

PAGE = Path(__file__).parent.parent / "docs" / "mathematics.md"
Verdict = bool | None
HEAD = """# What is the same, as mathematics

The grader `math_verify` finds the answer in a response, reads it and the reference as a whole, and compares
the two. It is right or it is an error: a reference of which only a part can be read is refused before a run
trains (with its line), never compared by that part.

- **Where the answer stands**: in the last `\\boxed{…}` or `\\fbox{…}` (several that only commas, "and" or
  "or" part are one answer; one that is cut off is none), else after the last "answer is", `####`, 答案是 and
  the like, else in the last formula, in bold, at the end. Thoughts are not the place for it.
- **Numbers** are compared exactly, or by their difference beside their size, at any size. A decimal of six
  significant digits or more is also what it is the rounding of: 0.333333 is 1/3, 0.33 is not.
- **Units** may be missing in either; where both have one that is known, it is converted (5 cm is 0.05 m and
  not 5 m). 50% is 0.5 and, as data sets have it, 50; 30° is 30 and π/6; `log` has the base 10 or e.
- **Expressions** with names are the same when they have the same values wherever both have a real one.
- **Sets, lists, tuples, intervals, inequalities, equations, matrices** are compared part by part: lists in
  any order, tuples in theirs, intervals and inequalities with each other in both directions.
- **Not read** (an error in a reference, no answer in a response): what leaves something out with dots, cases,
  integrals, sums, limits, and prose.

"""


def ours(reference: str, response: str) -> Verdict:
    """Whether the response is right; None: an error."""
    found = compare({"text": response, "reference": reference})
    return None if "error" in found else found["score"] == 1.0


def math_verify(reference: str, response: str) -> Verdict:
    """The same by the package's own defaults."""
    from math_verify import parse, verify

    marked = any(mark in reference for mark in ("$", "\\boxed", "\\(", "\\["))
    gold = parse(reference if marked else f"${reference}$")
    return verify(gold, parse(response)) if gold else None


def page(theirs: Callable[[str, str], Verdict]) -> str:
    """The page, with the verdicts of ``theirs`` beside ours."""
    totals, kinds, rows = [0, 0], [], []
    for kind, cases in CASES.items():
        right = [0, 0]
        for reference, response, expected in cases:
            verdicts = (ours(reference, response), theirs(reference, response))
            for number, verdict in enumerate(verdicts):
                right[number] += verdict is expected
            cells = (_code(reference), _code(response), _word(expected), *map(_word, verdicts))
            rows.append(f"| {kind} | {' | '.join(cells)} |")
        kinds.append(f"| {kind} | {len(cases)} | {right[0]} | {right[1]} |")
        totals = [total + one for total, one in zip(totals, right, strict=True)]
    return "\n".join(
        [
            HEAD + "## Cases tried",
            "",
            "`python -m benchmarks.mathematics` makes this page; a test holds our column to it.",
            "",
            "| kind | cases | right here | right by math-verify |",
            "|---|---|---|---|",
            *kinds,
            f"| **all** | **{COUNT}** | **{totals[0]}** | **{totals[1]}** |",
            "",
            "## Every case",
            "",
            "| kind | reference | response | expected | here | math-verify |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _code(text: str) -> str:
    shown = text.replace("|", "\\|").replace("\n", " ⏎ ")
    if "`" in shown:
        return f"`` {shown} ``"
    return f"`{shown}`" if shown else "(nothing)"


def _word(verdict: Verdict) -> str:
    return {True: "the same", False: "another", None: "error"}[verdict]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    PAGE.write_text(page(math_verify), encoding="utf-8")
    print(PAGE)
