"""Rewards of texts; an error is never a zero."""

import pytest

from trainer.errors import InvalidSpec
from trainer.graders.grading import build_grader, extract_answer, render
from trainer.graders.spec import EnvironmentGrader, StringCheckGrader, template_variables


@pytest.mark.parametrize(
    ("operation", "text", "reward"),
    [
        ("eq", "Paris", 1),
        ("eq", "paris", 0),
        ("ne", "Paris", 0),
        ("ne", "x", 1),
        ("like", "in Paris!", 1),
        ("like", "in paris!", 0),
        ("ilike", "in paris!", 1),
        ("ilike", "Rome", 0),
    ],
)
def test_string_check(operation, text: str, reward: float):
    grade = build_grader(
        StringCheckGrader(
            input="{{sample.output_text}}", reference="{{ item.answer }}", operation=operation, name="city"
        )
    )
    result = grade({"answer": "Paris"}, text)
    assert (result.reward, result.scores, result.error) == (reward, {"city": reward}, None)


def test_a_missing_value_is_an_error_and_not_a_zero():
    grade = build_grader(StringCheckGrader(input="{{sample.output_json.x}}", reference="{{item.a}}"))
    for item, text, name in [({"a": 1}, "no json", "sample.output_json.x"), ({}, '{"x": 1}', "item.a")]:
        result = grade(item, text)
        assert result.reward is None
        assert result.error is not None and name in result.error
    assert grade({"a": 1}, '{"x": 1}').reward == 1.0


def test_templates_reach_into_items():
    item = {"a": {"b": [10, {"c": "deep"}]}, "n": 1.5}
    assert render("{{item.a.b.1.c}}-{{item.n}}-{{item.a.b.0}}", item, "") == "deep-1.5-10"
    assert render("no variables {x}", item, "") == "no variables {x}"
    assert render("{{sample.output_text}}", {}, "{{item.n}}") == "{{item.n}}"  # filled once, not again
    for name in ("item.a.b.7", "item.zz", "other.x", "sample.output_texts"):
        with pytest.raises(KeyError):
            render("{{" + name + "}}", item, "x")


@pytest.mark.parametrize(
    ("extract", "text", "answer"),
    [
        ("text", "  7 \n", "7"),
        ("last_number", "4 + 3 is -1,234.50.", "-1234.50"),
        ("last_number", "none", None),
        ("last_line", "so\n\n it is 7 \n", "it is 7"),
        ("last_line", " \n", None),
        ("answer_tag", "<answer>1</answer> <ANSWER> 7\n</ANSWER>", "7"),
        ("answer_tag", "7", None),
    ],
)
def test_extraction(extract: str, text: str, answer: str | None):
    assert extract_answer(text, extract) == answer


def test_environment_asks_the_tasks_own_scorer():
    grade = build_grader(EnvironmentGrader(task="chain_sum", extract="last_number"))
    entry = {"answer": "7", "metadata": {}}
    assert grade(entry, "4 + 3 = 7").reward == 1.0
    assert (grade(entry, "4 + 3 = 8").reward or 0) < 0.1
    assert (grade(entry, "I do not know").reward or 0) < 0.1
    missing = grade({}, "7")
    assert missing.reward is None and missing.error is not None


def test_unknown_environment_is_refused_at_set_up():
    with pytest.raises(InvalidSpec, match="no_such_task"):
        build_grader(EnvironmentGrader(task="no_such_task"))


def test_variables_that_a_grader_reads():
    grader = StringCheckGrader(input="{{sample.output_text}} {{item.x.y}}", reference="{{item.z}}")
    assert template_variables(grader) == {"sample.output_text", "item.x.y", "item.z"}
    assert template_variables(EnvironmentGrader(task="chain_sum")) == {"item.answer"}
