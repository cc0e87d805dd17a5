"""Formulas over graders: values, bounds, and what is refused."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.graders.build import build_grader
from trainer.graders.formula import parse_formula
from trainer.graders.spec import MultiGrader, StringCheckGrader

SCORES = {"a": 0.5, "b": 3.0, "long_name1": -2.0}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("1", 1),
        ("a", 0.5),
        ("0.25 * a + .75 * b".replace(" .", " 0."), 2.375),
        ("a - b - 1", -3.5),
        ("b / 2 / 3", 0.5),
        ("1 + 2 * b ^ 2", 19),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("(-2) ^ 2", 4),
        ("2 ^ -1", 0.5),
        ("--b", 3),
        ("1 - -1", 2),
        ("min(a, b, 1) + max(a, b)", 3.5),
        ("abs(long_name1)", 2),
        ("floor(2.7) + ceil(2.1)", 5),
        ("exp(0) + log(exp(1)) + sqrt(16)", 6),
        ("clamp(b, 0, 1)", 1),
        ("1e-3*1.5E2", 0.15),
        (" ( ( a ) ) ", 0.5),
    ],
)
def test_values(formula: str, value: float):
    assert parse_formula(formula, SCORES)(SCORES) == pytest.approx(value)


@given(
    st.recursive(
        st.sampled_from(["a", "b", "2", "0.5"]),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        max_leaves=20,
    )
)
def test_arithmetic_is_that_of_python(formula: str):
    try:
        expected = eval(formula, {}, dict(SCORES))
    except ZeroDivisionError:
        expected = None
    if expected is None:
        with pytest.raises(ZeroDivisionError):
            parse_formula(formula, SCORES)(SCORES)
    else:
        assert parse_formula(formula, SCORES)(SCORES) == expected


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("", "ends where"),
        ("a +", "ends where"),
        ("a b", "has 'b' where the end"),
        ("(a", "ends where '\\)'"),
        ("c", "'c', which is not a grader; the graders are: a, b, long_name1"),
        ("eval(a)", "no function 'eval'; the functions are: min, max"),
        ("__import__('os').system('id')", "no function '__import__'|not a number"),
        ("a.__class__", "not a number, name or operator"),
        ("a if b else 1", "has 'if' where"),
        ("a, b", "has ',' where"),
        ("sqrt(a, b)", "sqrt takes 1 arguments, not 2"),
        ("min(a)", "min takes 2 to 32"),
        ("lambda: 1", "not a number"),
        ("a;b", "not a number"),
        ("9" * 500, "where the end"),
        ("(" * 200 + "a" + ")" * 200, "more than 50 levels"),
        ("2^" * 200 + "2", "more than 50 levels"),
        ("a+" * 2000 + "a", "up to 2000"),
        ("²", "not a number"),
    ],
)
def test_what_is_no_formula_is_refused(formula: str, says: str):
    with pytest.raises(ValueError, match=says):
        parse_formula(formula, SCORES)


@given(st.text(alphabet="ab0.9+-*/^(),e minsqrt_", max_size=60))
def test_any_text_is_refused_or_has_a_value_in_no_time(text: str):
    started = time.perf_counter()
    try:
        value = parse_formula(text, SCORES)(SCORES)
    except (ValueError, ArithmeticError):
        return
    finally:
        assert time.perf_counter() - started < 1
    assert isinstance(value, float)


def test_huge_powers_end_at_once():
    for formula in ("9^9^9^9", "exp(exp(99))"):
        with pytest.raises(OverflowError):
            parse_formula(formula, SCORES)(SCORES)


def multi(formula: str, **graders: StringCheckGrader) -> MultiGrader:
    return MultiGrader(graders=dict(graders), calculate_output=formula)


A = StringCheckGrader(input="{{sample.output_text}}", reference="a", operation="like")
JSON = StringCheckGrader(input="{{sample.output_json.x}}", reference="1")


def test_a_multi_grader_combines_scores_and_passes_errors_on():
    grader = build_grader(multi("0.25 + a / 2", a=A, unused=JSON))
    grade = grader({}, '{"x": 1, "a": 2}')
    assert (grade.reward, grade.scores) == (0.75, {"a": 1.0, "unused": 1.0, "multi": 0.75})
    broken = grader({}, "a")
    assert (broken.reward, broken.kind) == (None, "sample_parse_error")
    assert broken.error is not None and broken.error.startswith("unused: ")


@pytest.mark.parametrize(
    ("formula", "text", "kind", "says"),
    [
        ("1 / a", "b", "formula_parse_error", "division by zero"),
        ("log(a)", "b", "formula_parse_error", "cannot be evaluated"),
        ("1 + a", "a", "other_error", "gave 2; a reward must be from 0 to 1"),
        ("a - 1", "b", "other_error", "gave -1"),
        ("exp(800) * a", "a", "formula_parse_error", "cannot be evaluated"),
    ],
)
def test_a_formula_without_a_reward_is_an_error(formula: str, text: str, kind: str, says: str):
    grade = build_grader(multi(formula, a=A))({}, text)
    assert (grade.reward, grade.kind) == (None, kind)
    assert grade.error is not None and says in grade.error


def test_one_grader_may_stand_for_itself_as_in_the_sdks_type():
    body = {"type": "multi", "graders": A.model_dump() | {"name": "only"}, "calculate_output": "only"}
    grader = MultiGrader.model_validate(body)
    assert list(grader.named) == ["only"]
    assert build_grader(grader)({}, "a").reward == 1.0


@pytest.mark.parametrize("name", ["two words", "1st", "a-b", "", "é"])
def test_names_that_no_formula_can_have_are_refused(name: str):
    with pytest.raises(ValidationError, match="letters, digits and underscores"):
        MultiGrader(graders={name: A}, calculate_output="1")


def test_not_a_number_is_no_reward():
    assert math.isnan(parse_formula("1e400 - 1e400", SCORES)(SCORES))
    grade = build_grader(multi("1e400 - 1e400 + a", a=A))({}, "a")
    assert (grade.reward, grade.kind) == (None, "formula_parse_error")
