"""``response_format``: what is not of the form gets 0, unseen by graders; an unchecked one is an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.errors import InvalidSpec
from trainer.graders import formatted
from trainer.graders.custom import function_grader
from trainer.graders.formatted import Formatted, with_format
from trainer.graders.grade import Grade, Sample
from trainer.graders.response_format import ResponseFormat
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Rollouts, StepMetrics
from trainer.spec.run import RolloutSpec

ANSWER = {
    "type": "object",
    "properties": {"answer": {"type": "string", "pattern": "^[a-z]+$"}, "more": {"$ref": "#/$defs/list"}},
    "required": ["answer"],
    "additionalProperties": False,
    "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}},
}


def form(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat.model_validate(
        {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    )


def graded(form: ResponseFormat, texts: Sequence[str]) -> tuple[list[Grade], list[str]]:
    """The grades of a grader that gives 0.5, and what it was asked."""
    seen: list[str] = []

    def reward(_: dict[str, Any], text: str) -> float:
        seen.append(text)
        return 0.5

    grader = Formatted(function_grader(reward), form, sandboxes=1)
    try:
        return grader.grade_many([Sample.of({}, text) for text in texts]), seen
    finally:
        grader.close()


def test_what_is_of_the_form_is_graded_and_the_rest_is_zero_with_the_reason():
    texts = [
        '{"answer": "yes"}',
        "no JSON",
        '{"answer": 1}',
        ' {"answer": "no", "more": [[], [[]]]}\n',
        '{"answer": "No"}',
        '{"answer": "no", "more": [1]}',
        '{"answer": "no", "else": 1}',
        '<think>{"answer": "no"}</think>{"answer": "yes"}',
        '<think>{"answer": "yes"}',
        '{"answer": NaN}',
        "",
        "[" * 100_000,
    ]
    grades, seen = graded(form(ANSWER), texts)
    assert [grade.reward for grade in grades] == [0.5, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0]
    assert seen == ['{"answer": "yes"}', ' {"answer": "no", "more": [[], [[]]]}\n', '{"answer": "yes"}']
    assert [grade.error for grade in grades] == [None] * len(texts)
    assert [grade.parse_error is None for grade in grades] == [grade.reward == 0.5 for grade in grades]
    assert grades[2].parse_error == "at $.answer: 1 is not of type 'string'"
    assert grades[5].parse_error == "at $.more[0]: 1 is not of type 'array'"


def test_any_object_is_enough_without_a_schema():
    grades, _ = graded(
        ResponseFormat(type="json_object"), ['{"a": 1}', "[1]", "{'a': 1}", "```json\n{}\n```"]
    )
    assert [grade.reward for grade in grades] == [0.5, 0, 0, 0]


def test_text_asks_for_nothing():
    grader = function_grader(lambda _, text: 1.0)
    assert with_format(grader, ResponseFormat(type="text")) is grader
    assert with_format(grader, None) is grader


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "at $.type: 'objekt' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, "at $.properties.a.minimum: '1' is not of type 'number'"),
        ({"$ref": "#/$defs/a"}, "$ref '#/$defs/a' does not exist in the schema"),
        ({"$ref": "https://example.com/schema.json"}, "does not exist in the schema"),
        ({"$ref": "#"}, "the schema refers to itself endlessly"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: dict[str, Any], says: str):
    with pytest.raises(InvalidSpec) as refused:
        Formatted(function_grader(lambda _, text: 1.0), form(schema), sandboxes=1)
    assert says in str(refused.value)
    assert refused.value.param == "response_format.json_schema.schema"


def test_a_pattern_that_takes_for_ever_is_an_error_and_no_zero(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formatted, "SECONDS", 0.5)
    grades, seen = graded(form({"type": "string", "pattern": "^(a+)+$"}), [f'"{"a" * 60}b"', '"aa"'])
    assert [grade.reward for grade in grades] == [None, 0.5]
    assert grades[0].error is not None and "took longer than 0.5 s" in grades[0].error
    assert seen == ['"aa"']


def test_a_run_trains_the_form_and_charts_what_missed_it(tiny_model: Path, tmp_path: Path):
    # A response of the tiny model is a character: a digit is an integer.
    spec = tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        grader=None,
        response_format=form({"type": "integer"}),
        rollout=RolloutSpec(prompts_per_step=4, samples_per_prompt=32, max_response_tokens=1),
        evaluation=EvaluationSpec(max_items=6, samples_per_item=16),
        total_steps=1,
    )
    seen: list[str] = []

    def reward(_: dict[str, Any], text: str) -> float:
        seen.append(text)
        return 1.0

    train(spec, tmp_path / "run", reward=reward)
    events = events_of(tmp_path / "run")
    assert seen and all(text.strip().isdecimal() for text in seen)
    step = next(e for e in events if isinstance(e, StepMetrics) and e.step == 1)
    (rollouts,) = [e.rollouts for e in events if isinstance(e, Rollouts)]
    for label, mode in (("N", "normal"), ("H", "high-entropy")):
        own = [one for one in rollouts if one.mode.value == mode]
        missed = [one.parse_error is not None for one in own]
        assert step.values[f"train/{label}/parse_error"] == pytest.approx(sum(missed) / len(own))
        assert step.values[f"train/{label}/reward"] == pytest.approx(1 - sum(missed) / len(own))
        assert [one.reward for one in own] == [float(not one) for one in missed]
        assert 0 < step.values[f"eval/{label}/parse_error"] <= 1
    assert step.values["train/grader_errors"] == 0
    for grading in step.train:
        (use,) = grading.graders
        missed = step.values[f"train/{grading.mode.label}/parse_error"] * grading.responses
        assert (use.graded, use.errors) == (grading.responses, {"sample_parse_error": round(missed)})
