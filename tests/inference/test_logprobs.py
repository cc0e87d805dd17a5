"""Log-probabilities of answers and of prompts, beside those of the model computed slowly, in both modes."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from openai import OpenAI

from tests.fixtures.engines import PROMPT, TALKATIVE, Deployment
from trainer.model.policy import Policy, load_policy
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
MODES = list(Mode)


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture(scope="module")
def policy(serving: Deployment, model: str) -> Iterator[Policy]:
    spec = ModelSpec(path=str(serving.checkpoint_folder(model)), dtype="float32")
    yield load_policy(spec, PROMPT)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def slow(policy: Policy, ids: list[int]) -> torch.Tensor:
    """log pi of every token after each position; shape (T, V), float32."""
    with torch.no_grad():
        return policy.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stream", [False, True])
def test_each_token_of_an_answer_has_the_models_own(
    client: OpenAI, model: str, policy: Policy, mode: Mode, stream: bool
):
    """Whatever is sampled with: temperature, penalties and biases move the choice, not what is told."""
    options: Any = {"model": model, "messages": HELLO, "max_tokens": 8, "seed": 3, "n": 2, "temperature": 0.7}
    options |= {"logprobs": True, "top_logprobs": 3, "presence_penalty": 1, "logit_bias": {"65": 1}}
    answer: Any = client.chat.completions.create(**options, stream=stream, extra_body={"mode": mode.value})
    told: list[list[Any]] = [[], []]
    if stream:
        for chunk in answer:
            for choice in chunk.choices:
                told[choice.index] += choice.logprobs.content if choice.logprobs else []
    else:
        told = [choice.logprobs.content for choice in answer.choices]
    prompt = policy.prompt_ids(HELLO, mode)
    assert told[0] != told[1]
    for entries in told:
        assert len(entries) == 8
        vocabulary = policy.tokenizer.get_vocab()
        ids = [_id(policy, entry.bytes) for entry in entries]
        expected = slow(policy, prompt + ids)[len(prompt) - 1 : -1]
        for entry, row, token in zip(entries, expected, ids, strict=True):
            assert entry.logprob == pytest.approx(float(row[token]), abs=1e-5)
            best = row.topk(3)
            assert [one.logprob for one in entry.top_logprobs] == pytest.approx(
                best.values.tolist(), abs=1e-5
            )
            assert [_id(policy, one.bytes) for one in entry.top_logprobs] == best.indices.tolist()
        assert len(vocabulary) == 259


def _id(policy: Policy, said: list[int]) -> int:
    """The token that writes these bytes: of this tokenizer, a byte or a special token."""
    if len(said) > 1:
        return policy.tokenizer.convert_tokens_to_ids(bytes(said).decode())
    symbols = {character: value for value, character in _bytes_to_unicode().items()}
    return policy.tokenizer.convert_tokens_to_ids({v: k for k, v in symbols.items()}[said[0]])


def _bytes_to_unicode() -> dict[int, str]:
    """GPT-2's letters for bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["text", "ids"])
def test_a_prompt_is_echoed_with_its_own_tokens_and_what_they_cost_in_the_mode(
    client: OpenAI, model: str, policy: Policy, mode: Mode, form: str
):
    """As lm-eval asks for the likelihood of a choice: the mode's prompt is read before, and not told."""
    text = "\nWhat is it? é" * 30  # longer than a chunk
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    before = policy.tokenizer(f"{PROMPT}\n\n")["input_ids"] if mode is Mode.HIGH_ENTROPY else []
    prompt: Any = text if form == "text" else ids
    options: Any = {
        "model": model,
        "prompt": prompt,
        "echo": True,
        "logprobs": 2,
        "seed": 1,
        "temperature": 0,
    }
    options["extra_body"] = {"mode": mode.value}
    answer = client.completions.create(**options, max_tokens=1)
    told: Any = answer.choices[0].logprobs
    expected = slow(policy, before + ids)
    after = expected[len(before) :][:-1]
    own = [float(row[token]) for row, token in zip(after, ids[1:], strict=True)]
    if before:
        assert told.token_logprobs[0] == pytest.approx(float(expected[len(before) - 1][ids[0]]), abs=1e-4)
    else:
        assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    assert told.token_logprobs[1 : len(ids)] == pytest.approx(own, abs=1e-4)
    greedy = int(expected[-1].argmax())
    assert told.token_logprobs[len(ids) :] == pytest.approx([float(expected[-1][greedy])], abs=1e-4)
    assert all(
        max(top.values()) >= one
        for top, one in zip(told.top_logprobs[1:], told.token_logprobs[1:], strict=True)
    )
    assert len(told.tokens) == len(ids) + 1
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(before) + len(ids)
    if form == "text":
        assert answer.choices[0].text.startswith(text)
    assert told.text_offset[:3] == [0, 1, 2]
    # Nothing sampled: the prompt alone, streamed or not.
    alone: Any = client.completions.create(**options, max_tokens=0).choices[0]
    assert alone.logprobs.token_logprobs == told.token_logprobs[: len(ids)]
    streamed = [
        choice
        for chunk in client.completions.create(**options, max_tokens=1, stream=True)
        for choice in chunk.choices
    ]
    assert "".join(choice.text for choice in streamed) == answer.choices[0].text
    joined = [one for choice in streamed if choice.logprobs for one in choice.logprobs.token_logprobs or ()]
    assert joined == told.token_logprobs


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": [1, 2], "echo": True}, "echo"),
        ({"prompt": [1, 99999]}, "99999"),
        ({"prompt": "a", "logit_bias": {"99999": 1}}, "99999"),
    ],
)
def test_what_cannot_be_told_is_refused(client: OpenAI, model: str, body: Any, param: str):
    with pytest.raises(openai.BadRequestError, match=param):
        client.completions.create(model=model, **{"max_tokens": 1, **body})
