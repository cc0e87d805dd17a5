"""Answers from both modes at once, and the best of several by a grader."""

from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.attack.payloads import METADATA, WAYS_IN, traps
from tests.fixtures.engines import TALKATIVE, Deployment
from tests.inference.scripted_engine import ECHO

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
MODES = ["normal", "high-entropy"]


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def ask(client: OpenAI, model: str, n: int, mode: str | None = None, **extra: Any) -> Any:
    body = {**extra, **({"mode": mode} if mode else {})}
    stream = bool(body.pop("stream", False))
    return client.chat.completions.create(
        model=model, messages=HELLO, n=n, max_tokens=12, seed=5, extra_body=body, stream=stream
    )


def texts(choices: Sequence[Any]) -> list[str]:
    return [choice.message.content for choice in choices]


def test_mixed_takes_its_choices_in_turn_from_both_modes(client: OpenAI, model: str):
    alone = {mode: ask(client, model, 2, mode) for mode in MODES}
    mixed = ask(client, model, 4, "mixed")
    assert mixed.mode == "mixed"
    assert [choice.mode for choice in mixed.choices] == MODES * 2
    for mode in MODES:
        of_mode = [choice for choice in mixed.choices if choice.mode == mode]
        assert texts(of_mode) == texts(alone[mode].choices), "the same seeds as in that mode alone"
    prompts = sum(alone[mode].usage.prompt_tokens for mode in MODES)
    assert (mixed.usage.prompt_tokens, mixed.usage.completion_tokens) == (prompts, 4 * 12)
    streamed = [""] * 4
    for chunk in ask(client, model, 4, "mixed", stream=True):
        assert chunk.mode == "mixed"
        for choice in chunk.choices:
            assert choice.mode == MODES[choice.index % 2]
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts(mixed.choices)


def test_the_best_of_n_is_what_the_grader_likes_most(client: OpenAI, model: str):
    every = ask(client, model, 6, "mixed")
    # A request may hold any character but U+0000, which this model likes to say.
    at = next(index for index, text in enumerate(texts(every.choices)) if "\x00" not in text)
    liked = texts(every.choices)[at]
    grader = {
        "type": "text_similarity",
        "name": "like it",
        "input": "{{sample.output_text}}",
        "reference": "{{item.wanted}}",
        "evaluation_metric": "fuzzy_match",
    }
    wanted = {"grader": grader, "item": {"wanted": liked}, "keep": 2}
    best = ask(client, model, 6, "mixed", best_of_n=wanted)
    assert texts(best.choices)[0] == liked
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.choices[0].mode == MODES[at % 2]
    assert best.choices[0].reward == 1.0 > best.choices[1].reward
    assert best.usage == every.usage, "what was drawn was used, kept or not"


def test_an_answer_that_cannot_be_graded_is_never_preferred_and_never_a_zero(client: OpenAI, model: str):
    source = (
        "def grade(sample, item):\n"
        "    if sample['output_text'] == item['liked']:\n"
        "        return 0.25\n"
        "    raise ValueError('not this one')\n"
    )
    liked = next(text for text in texts(ask(client, model, 3).choices) if "\x00" not in text)
    grader = {"type": "python", "name": "picky", "source": source}
    wanted = {"grader": grader, "item": {"liked": liked}, "keep": 3}
    best = ask(client, model, 3, best_of_n=wanted)
    assert texts(best.choices)[0] == liked
    assert [choice.reward for choice in best.choices] == [0.25, None, None]
    assert "not this one" in best.choices[1].grader_error
    with pytest.raises(openai.InternalServerError, match="failed on all 2 answers") as caught:
        ask(client, model, 2, best_of_n={"grader": grader, "item": {"liked": ""}})
    assert caught.value.code == "grader_failed"


def test_distinct_gives_each_answer_once_with_its_count(client: OpenAI, model: str):
    source = (
        "def answer(sample, item):\n"
        "    return str(len(sample['output_text']) % 2)\n"
        "def grade(sample, item):\n"
        "    return 1 / (1 + len(sample['output_text']))\n"
    )
    lengths = [len(text) for text in texts(ask(client, model, 12, "mixed").choices)]
    assert {length % 2 for length in lengths} == {0, 1}, "both answers were drawn"
    wanted = {"grader": {"type": "python", "name": "odd", "source": source}, "keep": 12, "distinct": True}
    best = ask(client, model, 12, "mixed", best_of_n=wanted)
    shortest = sorted(min(length for length in lengths if length % 2 == odd) for odd in (0, 1))
    assert [len(text) for text in texts(best.choices)] == shortest
    counts = {length % 2: sum(other % 2 == length % 2 for other in lengths) for length in shortest}
    assert [choice.count for choice in best.choices] == [counts[length % 2] for length in shortest]
    (only,) = ask(client, model, 12, "mixed", best_of_n=wanted | {"keep": 1}).choices
    assert (only.index, only.count) == (0, best.choices[0].count)


def test_what_a_model_says_is_evaluated_in_the_sandbox_alone(scripted: Deployment):
    """To a scorer that runs text as code, by the response and by the item."""
    client, task = scripted.client(), "polynomial_multiplication"
    scripted.start_inference()
    grader = {"type": "environment", "name": "e", "task": task}
    with traps() as set_:
        for what, payload in set_.payloads().items():
            text = WAYS_IN[task].format(payload=payload)
            item = {"answer": text, "metadata": dict.fromkeys(METADATA, text)}
            said = client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": f"{ECHO}{text}"}],
                n=2,
                extra_body={"best_of_n": {"grader": grader, "item": item, "keep": 2}},
            )
            assert texts(said.choices) == [text] * 2
            assert set_.sprung() is None, what


PYTHON = {"type": "python", "name": "x", "source": "def grade(sample, item): return 1"}


@pytest.mark.parametrize(
    ("n", "extra", "named"),
    [
        (1, {"mode": "mixed"}, "n of 2 or more"),
        (2, {"best_of_n": {"grader": {"type": "string_check"}}}, "best_of_n.grader"),
        (2, {"best_of_n": {"grader": PYTHON, "keep": 3}}, "keep is 3"),
        (2, {"best_of_n": {"grader": PYTHON}, "stream": True}, "stream"),
        (2, {"best_of_n": {"grader": PYTHON, "distinct": True}}, "answer(sample, item)"),
        (2, {"best_of_n": {"grader": {**PYTHON, "source": "("}}}, "best_of_n.grader"),
    ],
)
def test_what_makes_no_sense_is_refused(client: OpenAI, model: str, n: int, extra: Any, named: str):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model, n, **extra)
    assert named in str(caught.value)


def test_mixed_needs_a_model_with_two_modes_and_an_id_without_one(client: OpenAI, model: str):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, f"{model}:high-entropy", 2, "mixed")
    assert caught.value.code == "mode_contradiction"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "tiny", 2, "mixed")
    assert caught.value.code == "mode_not_available"
