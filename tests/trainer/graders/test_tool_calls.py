"""Calls of tools in a response: ``sample.output_tools`` of templates and of Python sources."""

import json

import pytest

from trainer.graders.build import build_grader
from trainer.graders.spec import PythonGrader, StringCheckGrader
from trainer.graders.tool_calls import tool_calls

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call>'


def functions(text: str) -> list[tuple[object, object]]:
    found = [one["function"] for one in tool_calls(text)]
    return [(one["name"], json.loads(one["arguments"])) for one in found if isinstance(one, dict)]


@pytest.mark.parametrize(
    ("text", "called"),
    [
        (ADD, [("add", {"a": 1, "b": [2]})]),
        (
            f'I add. {ADD}\n<tool_call>{{"name": "é"}}</tool_call> Done.',
            [("add", {"a": 1, "b": [2]}), ("é", {})],
        ),
        ("4", []),
        ("", []),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}}', []),
        (f"<tool_call>nonsense</tool_call>{ADD}", [("add", {"a": 1, "b": [2]})]),
        ('<tool_call>{"name": 1, "arguments": {}}</tool_call>', []),
        ('<tool_call>{"name": "add", "arguments": "{}"}</tool_call>', []),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', []),
        ("<tool_call>[]</tool_call>", []),
        ("<tool_call>" * 100_000, []),
        (f"<tool_call>{'[' * 200_000}</tool_call>", []),
    ],
)
def test_calls_are_read_and_nothing_else_is(text: str, called: list[tuple[object, object]]):
    assert functions(text) == called


def test_a_call_is_in_the_form_that_hosted_graders_have():
    assert tool_calls(ADD) == [
        {
            "id": "call_0",
            "type": "function",
            "function": {"name": "add", "arguments": '{"a": 1, "b": [2]}'},
        }
    ]


def test_templates_and_sources_see_the_calls():
    name = StringCheckGrader(input="{{sample.output_tools[0].function.name}}", reference="{{item.tool}}")
    grader = build_grader(name)
    assert grader({"tool": "add"}, ADD).reward == 1.0
    assert grader({"tool": "mul"}, ADD).reward == 0.0
    none = grader({"tool": "add"}, "4")
    assert (none.reward, none.kind) == (None, "invalid_variable_error")
    source = """
import json
def grade(sample, item):
    calls = sample["output_tools"]
    return float(bool(calls) and json.loads(calls[0]["function"]["arguments"])["a"] == 1)
"""
    reads = build_grader(PythonGrader(source=source), workers=1)
    try:
        assert [reads({}, text).reward for text in (ADD, "4")] == [1.0, 0.0]
    finally:
        reads.close()
