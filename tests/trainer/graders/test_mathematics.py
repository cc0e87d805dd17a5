"""Equality of mathematical answers, by the table of cases that docs/mathematics.md shows."""

import json

import pytest

from benchmarks.mathematics import PAGE, math_verify, ours, page
from tests.fixtures.mathematics import CASES
from trainer.graders.build import build_grader
from trainer.graders.math_verify import MathVerify
from trainer.graders.multi import Multi
from trainer.graders.spec import MathVerifyGrader, StringCheckGrader
from trainer.sandbox.inside.mathematics.comparison import compare, normal_form
from trainer.sandbox.inside.mathematics.equality import equal
from trainer.sandbox.inside.mathematics.notation import Unreadable
from trainer.sandbox.inside.mathematics.reading import read

EACH = [case for cases in CASES.values() for case in cases]


@pytest.mark.parametrize(("reference", "response", "right"), EACH)
def test_equality_is_right_or_it_is_an_error(reference: str, response: str, right: bool | None):
    assert ours(reference, response) is right


def test_the_page_shows_these_cases_and_what_math_verify_said():
    """The other package's column is the recorded one, of which a few are asked again."""
    shown = PAGE.read_text(encoding="utf-8")
    recorded = [
        line.rsplit(" | ", 1)[1].removesuffix(" |") for line in shown.splitlines() if line.count(" | ") == 5
    ]
    said = dict(zip([case[:2] for case in EACH], recorded[1:], strict=True))
    words = {"the same": True, "another": False, "error": None}
    assert page(lambda reference, response: words[said[reference, response]]) == shown
    for case in EACH[::60]:
        assert math_verify(*case[:2]) is words[said[case[:2]]]


def test_what_is_equal_is_so_in_both_directions_and_has_one_normal_form():
    seen = 0
    for reference, response, right in EACH:
        found = compare({"text": response, "reference": reference})
        if right is None or found["answer"] is None:
            continue
        one = read(reference) if "boxed" not in reference and "$" not in reference else None
        if one is not None:
            assert equal(one, one)
            assert normal_form(one) == normal_form(read(reference))
            seen += 1
    assert seen > 200
    for pair in (
        ("1/2", "0.5"),
        ("(x+1)^2", "x^2+2x+1"),
        ("3, 5", "5, 3"),
        ("x = 2", "2"),
        ("2\\sqrt3", "\\sqrt{12}"),
    ):
        assert normal_form(read(pair[0])) == normal_form(read(pair[1]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "((((",
        "\\frac{1}{0}",
        "1 2",
        "2 +",
        "\\int_0^1",
        "a" * 5000,
        "(" * 500 + "1",
        "\\text{",
        "^",
        "{" * 300,
    ],
)
def test_what_is_not_an_answer_is_unreadable_and_nothing_worse(text: str):
    with pytest.raises(Unreadable):
        read(text)
    assert compare({"text": f"\\boxed{{{text}}}", "reference": "1"})["score"] == 0.0


def test_a_reference_at_fault_is_known_before_training():
    graders = (
        MathVerifyGrader(),
        StringCheckGrader(input="{{sample.output_text}}", reference="{{item.answer}}"),
    )
    mathematics = MathVerify(graders[0], 1)
    both = Multi("both", {"mathematics": mathematics, "words": build_grader(graders[1])}, "mathematics")
    try:
        rows: list[dict[str, object]] = [{"answer": str(number)} for number in range(120)]
        assert both.item_problem(rows) is None
        rows[70] = {"answer": "1, 2, \\ldots, n"}
        index, reason = both.item_problem(rows) or (None, "")
        assert index == 70 and "leaves something out" in reason
        rows[3] = {"question": "?"}
        assert both.item_problem(rows) == (3, "the template variable item.answer has no value")
        sample = json.loads(json.dumps({"answer": "\\frac{1}{2}"}))
        assert [both(sample, f"\\boxed{{{form}}}").answer for form in ("0.5", "2/4")] == [
            "1/2 | \\boxed{0.5}",
            "1/2 | \\boxed{2/4}",
        ]
    finally:
        both.close()
