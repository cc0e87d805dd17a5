"""What rows and requests may say in messages, the form in which templates see it, and what they must show."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.models import CHATML, build_tiny_model
from tests.fixtures.templates import DROPS_UNKNOWN, TOOLS_QWEN
from trainer.data.items import load_items
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy, load_policy
from trainer.model.templates import check_items
from trainer.spec.data import JsonlData
from trainer.spec.messages import BadMessages, conversation
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"b": 2, "a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
OF_TOOLS = {
    "messages": [
        {"role": "developer", "content": "Use tools."},
        {"role": "user", "content": [{"type": "text", "text": "1 "}, {"type": "text", "text": "+ 2?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
    ],
    "tools": [TOOL],
}


def test_the_form_that_templates_see():
    told = conversation(OF_TOOLS)
    assert told.templated() == [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "1 + 2?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": 1}}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
    ]
    assert told.templated(knows_developer=True)[0] == {"role": "developer", "content": "Use tools."}
    tools = told.templated_tools()
    assert tools is not None
    (tool,) = tools
    function: Any = tool["function"]
    assert list(function) == ["name", "description", "parameters"]
    assert function["description"] == ""
    null = conversation({"messages": [{"role": "user", "name": None, "content": "q"}], "tools": None})
    assert null.templated() == [{"role": "user", "content": "q"}]
    assert null.templated_tools() is None


def of(message: Any, **row: Any) -> dict[str, Any]:
    return {"messages": [message], **row}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (of({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}), "'input_audio', but"),
        (of({"role": "user", "content": [{"type": "file", "file": {}}]}), "read text only: leave it out"),
        (
            of({"role": "function", "name": "f", "content": "1"}),
            "'function' is the older name of the role 'tool'",
        ),
        (of({"role": "user", "content": None}), "'messages.0' has no 'content'"),
        (of({"role": "user", "content": "q", "tool_calls": [CALL]}), "not 'assistant'"),
        (of({"role": "tool", "content": "3"}), "tool_call_id is only allowed with the role 'tool'"),
        (
            of(
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}],
                }
            ),
            "'messages.0.tool_calls.0.function.arguments': arguments is",
        ),
        (
            of({"role": "assistant", "content": "", "function_call": {"name": "f"}}),
            "the older form of tool_calls",
        ),
        (of({"role": "user", "content": "q"}, tools=[{"type": "function"}]), "'tools.0' has no 'function'"),
        (of({"role": "user", "content": "q"}, tools={}), "'tools' is {}"),
        ({"prompt": "q"}, "'messages' is missing; the keys are: prompt"),
        (
            of({"role": "user", "content": [{"type": "input_text", "text": "x"}]}),
            "a part of the type 'input_text', as in the Responses API: write 'text'",
        ),
        (
            of({"role": "user", "content": ["x"]}),
            "'messages.0.content.0': a part is \"x\", but must be an object with 'type' and 'text'",
        ),
    ],
)
def test_what_cannot_be_used_is_named(row: dict[str, Any], says: str):
    with pytest.raises(BadMessages) as caught:
        conversation(row)
    assert says in str(caught.value)


@pytest.fixture
def policy_with(tmp_path: Path):
    def build(template: str) -> Policy:
        folder = build_tiny_model(tmp_path / "model", chat_template=template)
        return load_policy(ModelSpec(path=str(folder), dtype="float32"), "WANDER")

    return build


def items_of(tmp_path: Path, *rows: dict[str, Any], head: bytes = b""):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(head + "".join(json.dumps(row) + "\n" for row in rows).encode())
    return load_items(JsonlData(path=str(file)))


PLAIN = {"messages": [{"role": "user", "content": "q"}]}


def test_a_developers_instruction_is_the_system_message_where_the_template_does_not_know_developers(
    policy_with, tmp_path: Path
):
    row = {"messages": [{"role": "developer", "content": "INSTRUCTION"}, {"role": "user", "content": "q"}]}
    (item,) = items_of(tmp_path, row, head=b"\xef\xbb\xbf")
    policy = policy_with(DROPS_UNKNOWN)
    check_items(policy, [item], "training_data")
    found = policy.render(policy.messages(item.messages, Mode.HIGH_ENTROPY))
    assert found.startswith(
        "<|im_start|>system\nINSTRUCTION\n\nWANDER<|im_end|>\n<|im_start|>user\nq<|im_end|>"
    )
    knows = policy_with(CHATML + "{# 'developer' #}")
    assert knows.render(knows.messages(item.messages, Mode.NORMAL)).startswith("<|im_start|>developer\nINS")


def test_tools_calls_and_results_are_in_the_prompt(policy_with, tmp_path: Path):
    (item,) = items_of(tmp_path, OF_TOOLS)
    policy = policy_with(TOOLS_QWEN)
    check_items(policy, [item], "training_data")
    ids = policy.prompt_ids(item.messages, Mode.NORMAL, item.tools)
    text = policy.tokenizer.decode(ids)
    assert '"name": "add"' in text
    assert '<tool_call>\n{"name": "add", "arguments": {"b": 2, "a": 1}}\n</tool_call>' in text
    assert "<tool_response>\n3\n</tool_response>" in text


@pytest.mark.parametrize(
    ("template", "row", "field"),
    [
        (CHATML, {**PLAIN, "tools": [TOOL]}, "'tools.0'"),
        (CHATML, {"messages": [{"role": "user", "name": "ann", "content": "q"}]}, "'messages.0.name'"),
        (CHATML, OF_TOOLS | {"tools": None}, "'messages.2.tool_calls.0'"),
        (
            DROPS_UNKNOWN,
            {"messages": [*OF_TOOLS["messages"][1:2], OF_TOOLS["messages"][3]]},
            "'messages.1.content'",
        ),
    ],
    ids=["tools", "name", "calls", "tool"],
)
def test_what_the_template_would_drop_is_refused_with_its_line(
    policy_with, tmp_path: Path, template: str, row: dict[str, Any], field: str
):
    items = items_of(tmp_path, PLAIN, row)
    with pytest.raises(
        InvalidSpec, match=rf"omits {field} of line 2 from the prompt.*leave it out of the data"
    ):
        check_items(policy_with(template), items, "training_data")
