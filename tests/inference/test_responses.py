"""``/v1/responses`` through the unmodified OpenAI SDK: whole, as events, with forms and calls."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from app.inference.responses_objects import ResponseObject
from tests.fixtures.described import check_described
from tests.fixtures.engines import TALKATIVE, Deployment
from tests.fixtures.templates import QWEN3

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Guess(BaseModel):
    """A small form."""

    sure: bool


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def respond(client: OpenAI, model: str, **options: Any) -> Any:
    extra = {"seed": 7, **options.pop("extra_body", {})}
    options = {"input": "Hello", "max_output_tokens": 12, "extra_body": extra, **options}
    return client.responses.create(model=model, **options)


@pytest.mark.parametrize("mode", ["normal", "high-entropy"])
def test_a_response_is_what_the_chat_says(client: OpenAI, model: str, mode: str):
    chat: Any = client.chat.completions.create(
        model=model,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        max_tokens=12,
        seed=7,
        extra_body={"mode": mode},
    )
    extra = {"mode": mode}
    told = respond(client, model, instructions="Be brief.", metadata={"a": "b"}, extra_body=extra)
    assert told.output_text == chat.choices[0].message.content
    assert (told.status, told.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (told.mode, told.metadata, told.instructions) == (mode, {"a": "b"}, "Be brief.")
    assert told.usage.input_tokens == chat.usage.prompt_tokens
    items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
    assert respond(client, model, input=items, instructions="Be brief.", extra_body=extra).output_text == (
        told.output_text
    )


def test_events_and_answers_are_the_sdks_own_types(serving: Deployment, client: OpenAI, model: str):
    body = {"model": model, "input": "Hello", "max_output_tokens": 12, "seed": 7, "top_logprobs": 2}
    whole = httpx.post(f"{serving.url}/v1/responses", json=body).raise_for_status()
    check_described(ResponseObject, whole.text)
    expected = TypeAdapter(Response).validate_json(whole.text, strict=True)
    (message,) = expected.output
    assert message.type == "message" and message.content[0].type == "output_text"
    assert len(message.content[0].logprobs or ()) == 12
    sent = httpx.post(f"{serving.url}/v1/responses", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in sent.splitlines() if line.startswith("data: ")]
    for number, event in enumerate(events):
        EVENT.validate_json(json.dumps(event), strict=True)
        assert event["sequence_number"] == number
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    text = "".join(event.get("delta", "") for event in events)
    assert text == expected.output_text
    last = events[-1]["response"]
    assert last["output"][0]["content"] == json.loads(whole.text)["output"][0]["content"]
    with client.responses.stream(
        model=model, input="Hello", max_output_tokens=5, extra_body={"seed": 7}
    ) as stream:
        assert "".join(one.delta for one in stream if one.type == "response.output_text.delta")


def test_forms_and_calls(client: OpenAI, model: str):
    parsed = client.responses.parse(
        model=model, input="Hello", text_format=Guess, max_output_tokens=40, extra_body={"seed": 1}
    )
    assert isinstance(parsed.output_parsed, Guess)
    assert parsed.status == "completed"
    choice = {"type": "function", "name": "add"}
    answer = respond(client, model, tools=[TOOL], tool_choice=choice, max_output_tokens=60)
    (call,) = answer.output
    assert (call.type, call.name, list(json.loads(call.arguments))) == ("function_call", "add", ["yes"])
    events = list(respond(client, model, tools=[TOOL], tool_choice=choice, max_output_tokens=60, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[2:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    # What it called, with what came back, is the beginning of the next request.
    back = [
        {"role": "user", "content": "Hello"},
        *(item.model_dump(exclude_none=True) for item in answer.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "yes"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
    ]
    assert respond(client, model, input=back, tools=[TOOL]).usage.input_tokens > answer.usage.input_tokens


def test_effort_is_the_templates_own_switch(serving: Deployment, client: OpenAI):
    name = serving.add_finished(chat_template=QWEN3)
    tokens = {
        effort: respond(client, name, reasoning={"effort": effort}, max_output_tokens=1).usage.input_tokens
        for effort in ("none", "high")
    }
    assert tokens["none"] != tokens["high"]
    chat: Any = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "Hello"}], reasoning_effort="minimal", max_tokens=1
    )
    assert chat.usage.prompt_tokens == tokens["none"]


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"previous_response_id": "resp_1"}, "send the earlier items in input"),
        ({"conversation": "conv_1"}, "send the earlier items in input"),
        ({"background": True}, "background requests are not supported"),
        ({"prompt": {"id": "pmpt_1"}}, "send instructions and input"),
        ({"input": []}, "at least one item"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image|input_text"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "not"),
        ({"mode": "mixed"}, "mode"),
        ({"n": 2}, "n"),
    ],
    ids=str,
)
def test_what_is_not_done_is_refused_in_words(client: OpenAI, model: str, extra: dict[str, Any], says: str):
    with pytest.raises(openai.BadRequestError, match=says):
        respond(client, model, extra_body=extra)


def test_store_is_taken_and_nothing_is_kept(client: OpenAI, model: str):
    told = respond(client, model, store=True, include=["reasoning.encrypted_content"], truncation="auto")
    assert told.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(told.id)
