"""Rewards of texts; an error is never a zero."""

import json
import re
import time
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.graders.build import build_grader
from trainer.graders.custom import function_grader
from trainer.graders.extraction import extract_answer
from trainer.graders.grade import GraderError, Sample
from trainer.graders.spec import (
    EnvironmentGrader,
    MathVerifyGrader,
    MultiGrader,
    StringCheckGrader,
    TextSimilarityGrader,
    template_variables,
)
from trainer.graders.templates import compile_template


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


def render(template: str, item: dict, text: str) -> str:
    return compile_template(template)(Sample(item, text))


def test_templates_reach_into_items():
    item = {"a": {"b": [10, {"c": "deep"}]}, "n": 1.5}
    assert render("{{item.a.b.1.c}}-{{item.n}}-{{item.a.b.0}}", item, "") == "deep-1.5-10"
    assert render("no variables {x}", item, "") == "no variables {x}"
    assert render("", item, "") == ""
    assert render("{{item}}", {"a": "ö"}, "") == '{"a": "ö"}'
    assert render("{{sample.output_json}}", {}, '{"a": [1]}') == '{"a": [1]}'
    for name in ("item.a.b.7", "item.zz", "item.a.b.99999999999999999999", "item.n.x"):
        with pytest.raises(GraderError, match=name):
            render("{{" + name + "}}", item, "x")


def test_what_a_variable_says_is_never_read_as_a_template():
    hostile = "{{item.secret}} {{sample.output_text}} ${item} {0.__class__} %s"
    item = {"secret": "hidden", "x": hostile}
    assert render("{{item.x}}|{{sample.output_text}}", item, hostile) == f"{hostile}|{hostile}"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{other.x}}", "'other.x' is unknown"),
        ("{{sample.output_texts}}", "item.FIELD, sample.output_text"),
        ("{{item.a..b}}", "empty part"),
        ("{{item.a", "is not a valid variable"),
        ("{{item.__class__.x()}}", "is not a valid variable"),
        ("{{ item.a | upper }}", "uses a filter"),
        ("{{" * 100_000, "is not a valid variable"),
        ("{{" + " " * 500_000, "is not a valid variable"),
    ],
)
def test_templates_that_are_none_are_refused_quickly(template: str, says: str):
    started = time.perf_counter()
    with pytest.raises(ValidationError, match=says):
        StringCheckGrader(input=template, reference="")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000_000, '{"a":' * 100_000, "NaN", "1" * 5000, "{'a': 1}", "", "\ud800", '{"x": Infinity}'],
)
def test_a_response_that_is_no_json_is_an_error(text: str):
    grade = build_grader(StringCheckGrader(input="{{sample.output_json.x}}", reference="1"))({}, text)
    assert (grade.reward, grade.kind) == (None, "sample_parse_error")


def test_lone_surrogates_are_compared_like_other_characters():
    text = json.loads('"\\ud800"')
    grader = StringCheckGrader(input="{{sample.output_text}}", reference="{{item.a}}", operation="ilike")
    assert build_grader(grader)({"a": text}, f"x{text}").reward == 1.0
    for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_l"):
        similar = TextSimilarityGrader(
            input="{{sample.output_text}}", reference="{{item.a}}", evaluation_metric=metric
        )
        assert build_grader(similar)({"a": text}, text).error is None


def test_a_deeply_nested_item_is_an_error():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    grade = build_grader(StringCheckGrader(input="{{item.a}}", reference="x"))({"a": deep}, "")
    assert grade.reward is None and grade.error == "the sample is nested too deeply"
    while deep:
        deep = deep.pop()  # taken apart by hand: Python's own way is as deep as the list


def test_a_hundred_thousand_samples_are_graded_in_order():
    grader = build_grader(StringCheckGrader(input="{{sample.output_text}}", reference="{{item.a}}"))
    samples = [Sample({"a": str(n)}, str(n if n % 3 else -1)) for n in range(100_000)]
    grades = grader.grade_many(samples)
    assert [grade.reward for grade in grades] == [float(n % 3 != 0) for n in range(100_000)]


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
        ("answer_tag", "<answer>7", None),
        ("answer_tag", "</answer><answer>1<answer>2</answer>", "1<answer>2"),
    ],
)
def test_extraction(extract: str, text: str, answer: str | None):
    assert extract_answer(text, extract) == answer


@pytest.mark.parametrize("text", ["<answer>" * 200_000, "1," * 500_000, "-" * 1_000_000, "\n" * 1_000_000])
@pytest.mark.parametrize("extract", ["text", "last_number", "last_line", "answer_tag"])
def test_extraction_takes_time_in_proportion(extract: str, text: str):
    started = time.perf_counter()
    extract_answer(text, extract)
    assert time.perf_counter() - started < 2


def test_variables_that_a_grader_reads():
    grader = StringCheckGrader(input="{{sample.output_text}} {{item.x.y}}", reference="{{item.z}}")
    assert template_variables(grader) == {"sample.output_text", "item.x.y", "item.z"}
    assert template_variables(EnvironmentGrader(task="chain_sum")) == {"item.answer"}
    multi = MultiGrader(graders={"a": grader, "b": MathVerifyGrader()}, calculate_output="a*b")
    assert template_variables(multi) == {"sample.output_text", "item.x.y", "item.z", "item.answer"}


@pytest.mark.parametrize(
    "parts", [(0.4, 0.2, 0.3, 0.1), (0.8, 0.05, 0.05, 0.1), (0.55, 0.3, 0.05, 0.1), (0.1,) * 10]
)
def test_a_sum_of_all_parts_is_the_whole_reward_whatever_floats_say(parts: tuple[float, ...]):
    graders: Any = {f"p{n}": StringCheckGrader(input="1", reference="1") for n in range(len(parts))}
    formula = " + ".join(f"{part} * p{n}" for n, part in enumerate(parts))
    total = 0.0
    for part in parts:
        total += part
    assert total != 1.0
    assert build_grader(MultiGrader(graders=graders, calculate_output=formula))({}, "").reward == 1.0
    assert function_grader(lambda _item, _text: total)({}, "").reward == 1.0
    assert function_grader(lambda _item, _text: 1 - total)({}, "").reward == 0.0


def test_a_rubric_is_scaled_by_its_range_or_is_off_the_scale_of_rewards():
    graders: Any = {"a": StringCheckGrader(input="{{sample.output_text}}", reference="good")}
    rubric = MultiGrader(graders=graders, calculate_output="2 + 3 * a")
    off = build_grader(rubric)({}, "good")
    assert off.reward is None and off.off_scale
    assert (
        off.error
        == "the grader gave 5; a reward must be from 0 to 1: give the grader its range, [lowest, highest]"
    )
    scaled = build_grader(rubric.model_copy(update={"range": [0, 5]}))
    assert [scaled({}, text).reward for text in ("good", "bad")] == [1.0, 0.4]
    assert scaled({}, "good").scores["multi"] == 5.0
    narrow = build_grader(rubric.model_copy(update={"range": [0, 4]}))({}, "good")
    assert narrow.off_scale and narrow.error is not None and "its range is 0 to 4" in narrow.error


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{item.a[0].b}}", "first"),
        ("{{item.a.0.b}}", "first"),
        ("{{ item.a[-1].b }}", "last"),
        ("{{item.a[ 1 ].b}}", "last"),
        ("{{item.n}}", "0"),
        ("{{item.messages}}", '[{"role": "user", "content": "hi"}]'),
        ("{{item.messages[0].content}}", "hi"),
        ("{{item.with_null}}", '{"x": null}'),
        ("{{sample.output_json[1]}}", "2"),
        ("{{sample.output_json[-1].k}}", "null"),
    ],
)
def test_a_path_reaches_into_lists_from_either_end(template: str, value: str):
    item = {
        "a": [{"b": "first"}, {"b": "last"}],
        "n": 0,
        "messages": [{"role": "user", "content": "hi"}],
        "with_null": {"x": None},
    }
    assert render(template, item, '[1, 2, {"k": null}]') == value


@pytest.mark.parametrize(
    "template", ["{{item.null}}", "{{item.a[2]}}", "{{item.a[-3]}}", "{{item.a[0][0]}}", "{{item.x}}"]
)
def test_null_and_what_is_not_there_have_no_value(template: str):
    with pytest.raises(GraderError, match=re.escape(template.strip("{}"))) as caught:
        render(template, {"null": None, "a": [1, 2]}, "x")
    assert caught.value.kind == "invalid_variable_error"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{item.x | tojson}}", "uses a filter, but filters are not supported"),
        ("{{ item.x|upper }}", "uses a filter"),
        ("{{item..x}}", "empty part"),
        ("{{item.x[a]}}", "is not a valid variable; write"),
        ("{{item['x']}}", "is not a valid variable; write"),
        ("{{item.x[1:2]}}", r"[0] or .0 for an element"),
        ("{{sample.output_texts}}", "is unknown; it should be item.FIELD"),
        ("{{sample[0]}}", "is unknown"),
        ("{{row.x}}", "is unknown"),
    ],
)
def test_a_template_that_cannot_be_read_says_what_can(template: str, says: str):
    with pytest.raises(ValidationError) as caught:
        StringCheckGrader(input=template, reference="")
    assert says in str(caught.value)


def test_thoughts_are_beside_the_answer_and_both_have_names():
    sample = Sample.of({}, "<think>\nIs it 3?\n</think>\n\nIt is 4.")
    for name, text in (
        ("output_text", "It is 4."),
        ("reasoning", "Is it 3?"),
        ("full_text", "<think>\nIs it 3?\n</think>\n\nIt is 4."),
    ):
        assert compile_template("{{sample." + name + "}}")(sample) == text
    grade = build_grader(StringCheckGrader(input="{{sample.output_json.a}}", reference="yes"))
    assert grade({}, '<think>{"a": "no"}</think>{"a": "yes"}').reward == 1.0
