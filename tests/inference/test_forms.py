"""Answers held to a form: JSON of a schema, and calls of tools, by the built-in engine in both modes."""

import json
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI

from tests.fixtures.engines import PROMPT, TALKATIVE, Deployment
from tests.fixtures.forms import ALLOWED, FORM, may_follow, text_of
from tests.fixtures.templates import TOOLS_QWEN
from trainer.model.policy import load_policy
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode
from worker.inference.engines.calls import CallReader

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


#: One refers to a part of its own schema, as pydantic writes them.
ADD = tool("add", yes={"$ref": "#/$defs/Yes"})
ADD["function"]["parameters"]["$defs"] = {"Yes": {"type": "boolean"}}
TOOLS = [ADD, tool("now")]


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture(scope="module")
def calling(serving: Deployment) -> str:
    """A model whose chat template tells of tools, as Qwen's does."""
    return serving.add_finished(seed=TALKATIVE, chat_template=TOOLS_QWEN)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def ask(client: OpenAI, model: str, **options: Any) -> Any:
    options = {"messages": HELLO, "max_tokens": 400, "seed": 7, **options}
    return client.chat.completions.create(model=model, **options)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_likeliest_text_of_the_form_is_what_a_slow_search_finds(
    serving: Deployment, client: OpenAI, model: str, mode: Mode
):
    """Token by token: the likeliest of those with which the text can still become one of the form."""
    answer = ask(client, model, response_format=FORM, temperature=0, extra_body={"mode": mode.value})
    policy = load_policy(ModelSpec(path=str(serving.checkpoint_folder(model)), dtype="float32"), PROMPT)
    ids = policy.prompt_ids(HELLO, mode)
    text = ""
    with torch.no_grad():
        while not ALLOWED.fullmatch(text):
            logits = policy.model(torch.tensor([ids])).logits[0, -1]
            best = max(may_follow(policy, text), key=lambda token: float(logits[token]))
            ids.append(best)
            text += text_of(policy, [best])
    assert answer.choices[0].message.content == text
    assert answer.choices[0].finish_reason == "stop"


def test_every_choice_is_of_the_form_and_a_stream_is_the_same(client: OpenAI, model: str):
    for form in (FORM, {"type": "json_object"}):
        options: dict[str, Any] = {"response_format": form, "n": 3, "extra_body": {"mode": "mixed"}}
        # So that any object ends: what closes it is likely.
        options["logit_bias"] = {"92": 30}
        whole = ask(client, model, **options)
        texts = [choice.message.content for choice in whole.choices]
        told = [json.loads(text) for text in texts]
        assert all(isinstance(one, dict) for one in told)
        if form is FORM:
            assert all(ALLOWED.fullmatch(text) for text in texts)
            assert len(set(texts)) > 1
        streamed = ["", "", ""]
        for chunk in ask(client, model, stream=True, **options):
            for choice in chunk.choices:
                streamed[choice.index] += choice.delta.content or ""
        assert streamed == texts


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strin"}, "strin"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(
    client: OpenAI, model: str, schema: Any, why: str
):
    form = {"type": "json_schema", "json_schema": {"name": "guess", "schema": schema}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=why) as caught:
            ask(client, model, response_format=form, stream=stream)
        assert caught.value.param == "response_format"


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("trained", [True, False], ids=["marks", "no-marks"])
def test_a_tool_that_must_be_called_is(client: OpenAI, model: str, calling: str, trained: bool, mode: Mode):
    name = calling if trained else model
    options: dict[str, Any] = {"tools": TOOLS, "extra_body": {"mode": mode.value}}
    chosen = {"type": "function", "function": {"name": "add"}}
    for choice in (chosen, "required"):
        wanted = {**options, "tool_choice": choice, "parallel_tool_calls": False, "n": 2}
        answer = ask(client, name, **wanted)
        streamed: list[list[Any]] = [[], []]
        for chunk in ask(client, name, stream=True, **wanted):
            for one in chunk.choices:
                streamed[one.index] += one.delta.tool_calls or []
        for one in answer.choices:
            (call,) = one.message.tool_calls
            assert (one.finish_reason, one.message.content, call.type) == ("tool_calls", None, "function")
            arguments = json.loads(call.function.arguments)
            if call.function.name == "add":
                assert list(arguments) == ["yes"] and isinstance(arguments["yes"], bool)
            else:
                assert (choice, call.function.name, arguments) == ("required", "now", {})
            (piece,) = streamed[one.index]
            assert piece.function.to_dict() == call.function.to_dict()


def test_a_choice_that_is_not_among_the_tools_is_refused(client: OpenAI, model: str, calling: str):
    for name in (model, calling):
        with pytest.raises(openai.BadRequestError, match=r"'sub', but the tools are: add, now") as caught:
            ask(client, name, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "sub"}})
        assert caught.value.param == "tool_choice"
    bad = {"type": "function", "function": {"name": "f", "parameters": {"type": "objct"}}}
    with pytest.raises(openai.BadRequestError, match="objct") as caught:
        ask(client, model, tools=[bad], tool_choice="required")
    assert caught.value.param == "tools"


def test_left_to_itself_a_model_that_calls_nothing_answers(client: OpenAI, calling: str):
    plain = ask(client, calling, tools=TOOLS, max_tokens=20)
    assert plain.choices[0].message.content
    assert plain.choices[0].message.tool_calls is None


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read_however_the_text_is_cut(size: int):
    text = f"Let me < see.{CALL}\n{CALL} <tool_call>no</tool_call> <tool_call>{{"
    reader = CallReader(marked=True)
    found = [one for at in range(0, len(text), size) for one in reader.feed(text[at : at + size])]
    found += reader.end()
    called = [one for one in found if isinstance(one, dict)]
    assert called == [{"name": "add", "arguments": '{"a": 1}'}] * 2
    said = "".join(one for one in found if isinstance(one, str))
    assert said == "Let me < see.\n <tool_call>no</tool_call> <tool_call>{"
