"""``/v1/completions``: raw prompts through the unmodified OpenAI SDK."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from app.inference.objects import ChatCompletionObject, CompletionObject
from tests.fixtures.described import check_described
from tests.fixtures.engines import PROMPT, TALKATIVE, Deployment
from tests.fixtures.models import CHATML


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def complete(client: OpenAI, model: str, prompt: Any, **options: Any) -> Any:
    options = {"max_tokens": 12, "seed": 7, **options}
    return client.completions.create(model=model, prompt=prompt, **options)


def test_a_raw_prompt_is_what_the_chat_template_would_make_of_it(client: OpenAI, model: str):
    """What the template writes, sent as a raw prompt, is the same conversation, to the token."""
    chat: Any = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=12, seed=7
    )
    raw = complete(client, model, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert "<|im_start|>{{ m['role'] }}" in CHATML
    assert raw.choices[0].text == chat.choices[0].message.content
    assert raw.usage == chat.usage
    assert (raw.object, raw.mode, raw.choices[0].finish_reason) == ("text_completion", "normal", "length")


def test_the_high_entropy_mode_puts_its_prompt_in_front(client: OpenAI, model: str):
    by_id = complete(client, f"{model}:high-entropy", "Once")
    by_body = complete(client, model, "Once", extra_body={"mode": "high-entropy"})
    by_hand = complete(client, model, f"{PROMPT}\n\nOnce")
    assert by_id.choices[0].text == by_body.choices[0].text == by_hand.choices[0].text
    assert by_id.choices[0].text != complete(client, model, "Once").choices[0].text
    assert by_id.usage == by_hand.usage
    assert by_id.choices[0].mode == "high-entropy"


def test_several_prompts_and_n_are_numbered_prompt_by_prompt(client: OpenAI, model: str):
    alone = [complete(client, model, prompt, n=2) for prompt in ("ab", "xyz")]
    both = complete(client, model, ["ab", "xyz"], n=2)
    expected = [choice.text for one in alone for choice in one.choices]
    assert [choice.text for choice in both.choices] == expected
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert len(set(expected)) == 4
    assert both.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in alone)
    streamed = [""] * 4
    usage = None
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in complete(client, model, ["ab", "xyz"], n=2, echo=True, **options):
        usage = chunk.usage
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [
        prompt + text for prompt, text in zip(["ab", "ab", "xyz", "xyz"], expected, strict=True)
    ]
    assert usage == both.usage


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[1], "a"]}, "prompt.1"),
    ({"logprobs": 6}, "logprobs"),
    ({"suffix": "end"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"prompt": ["a"] * 100, "n": 2}, "200 answers"),
    ({"tools": []}, "tools"),
    ({"n": 0}, "n"),
]


@pytest.mark.parametrize(("extra", "named"), REFUSED, ids=[str(extra)[:40] for extra, _ in REFUSED])
def test_what_can_not_be_done_is_refused_by_name(client: OpenAI, model: str, extra: Any, named: str):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, model, prompt="a", extra_body=extra)
    assert named in str(caught.value)


def test_what_exceeds_the_context_is_refused(client: OpenAI, model: str):
    """2,048 tokens; a character is one."""
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, model, "x" * 2100)
    assert caught.value.code == "context_length_exceeded"
    assert "2048" in str(caught.value)
    for options in ({"messages": [{"role": "user", "content": "x" * 2100}]}, {"max_tokens": 2100}):
        for stream in (False, True):
            ask: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], **options}
            with pytest.raises(openai.BadRequestError, match="maximum context length") as caught:
                client.chat.completions.create(model=model, stream=stream, **ask)
            assert caught.value.code == "context_length_exceeded"
    # What there is room for ends where the context does.
    messages: list[Any] = [{"role": "user", "content": "x" * 2000}]
    answer: Any = client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=100
    )
    assert answer.usage.total_tokens == 2048
    assert answer.choices[0].finish_reason == "length"


def test_answers_are_what_the_description_says(client: OpenAI, model: str):
    grader = {
        "type": "string_check",
        "input": "{{sample.output_text}}",
        "operation": "like",
        "reference": "a",
    }
    for extra in ({}, {"mode": "mixed"}, {"best_of_n": {"grader": grader, "keep": 2}}):
        options: dict[str, Any] = {"model": model, "n": 2, "max_tokens": 4, "extra_body": extra}
        chat = client.chat.completions.with_raw_response.create(
            messages=[{"role": "user", "content": "Hi"}], **options
        )
        check_described(ChatCompletionObject, chat.text)
        raw = client.completions.with_raw_response.create(prompt="Hi", **options)
        check_described(CompletionObject, raw.text)
