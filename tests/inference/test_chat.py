"""Chat completions through the unmodified OpenAI SDK, answered by real engine servers."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fixtures.engines import TALKATIVE, Deployment, until

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def model(serving: Deployment) -> str:
    """A finished model with one checkpoint."""
    return serving.add_finished(seed=TALKATIVE)


@pytest.fixture
def client(serving: Deployment) -> OpenAI:
    return serving.client()


def ask(client: OpenAI, model: str, **options: Any) -> Any:
    options = {"messages": HELLO, "max_tokens": 24, "seed": 7, **options}
    return client.chat.completions.create(model=model, **options)


def text(client: OpenAI, model: str, **options: Any) -> str:
    return ask(client, model, **options).choices[0].message.content


def test_both_modes_answer_from_one_engine(serving: Deployment, client: OpenAI, model: str):
    answers = {}
    for name, mode in ((model, "normal"), (f"{model}:high-entropy", "high-entropy")):
        raw = client.chat.completions.with_raw_response.create(
            model=name, messages=HELLO, max_tokens=24, seed=7
        )
        answer: Any = raw.parse()
        assert raw.headers["x-policysplit-mode"] == mode
        assert (answer.model, answer.mode, answer.choices[0].mode) == (name, mode, mode)
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        answers[mode] = answer
        loaded = [engine for engine in serving.engines() if model.rsplit(":", 1)[1] in engine["folder"]]
        assert len(loaded) == 1
        answers[f"{mode} pid"] = loaded[0]["pid"]
    assert answers["normal pid"] == answers["high-entropy pid"]
    assert answers["normal"].usage.prompt_tokens < answers["high-entropy"].usage.prompt_tokens
    assert answers["normal"].choices[0].message.content != answers["high-entropy"].choices[0].message.content


def test_mode_in_the_body_is_the_mode_in_the_id(client: OpenAI, model: str):
    by_body = ask(client, model, extra_body={"mode": "high-entropy"})
    assert by_body.mode == "high-entropy"
    assert by_body.choices[0].message.content == text(client, f"{model}:high-entropy")
    same = ask(client, f"{model}:high-entropy", extra_body={"mode": "high-entropy"})
    assert same.mode == "high-entropy"


def test_a_checkpoint_answers_like_the_job_result_that_it_is(client: OpenAI, model: str):
    for mode in ("", ":high-entropy"):
        assert text(client, f"{model}:ckpt-step-10{mode}") == text(client, f"{model}{mode}")


def test_the_best_checkpoint_answers_for_the_job_although_a_later_one_is_there(
    serving: Deployment, client: OpenAI
):
    job = serving.add_job("succeeded", result_step=5, result_reason="its eval/N/reward is the highest")
    for step, seed in ((5, TALKATIVE), (10, TALKATIVE + 1)):
        serving.add_checkpoint(job, step, seed=seed)
    model = job.fine_tuned_model
    assert model is not None
    for mode in ("", ":high-entropy"):
        assert text(client, f"{model}{mode}") == text(client, f"{model}:ckpt-step-5{mode}")
        assert text(client, f"{model}{mode}") != text(client, f"{model}:ckpt-step-10{mode}")
    (chosen, other) = reversed(client.fine_tuning.jobs.checkpoints.list(job.id).data)
    told = [(one.model_extra or {})["result_reason"] for one in (chosen, other)]
    assert (chosen.step_number, told) == (5, ["its eval/N/reward is the highest", None])


def test_a_base_model_answers(client: OpenAI):
    answer = ask(client, "tiny")
    assert (answer.mode, answer.model) == ("normal", "tiny")


@pytest.mark.parametrize("mode", ["normal", "high-entropy"])
def test_a_stream_carries_the_same_answer(client: OpenAI, model: str, mode: str):
    whole = ask(client, model, extra_body={"mode": mode})
    stream = ask(
        client, model, stream=True, stream_options={"include_usage": True}, extra_body={"mode": mode}
    )
    chunks = list(stream)
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert {chunk.mode for chunk in chunks} == {mode}
    assert {choice.mode for chunk in chunks for choice in chunk.choices} == {mode}
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert sum(1 for piece in pieces if piece) > 5
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["length"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)


def test_a_stream_ends_with_done_and_has_no_usage_unless_asked(serving: Deployment, model: str):
    body = {"model": model, "messages": HELLO, "max_tokens": 3, "stream": True}
    answer = httpx.post(f"{serving.url}/v1/chat/completions", json=body)
    lines = [line for line in answer.text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert "usage" not in answer.text


def test_n_choices_are_distinct_samples(client: OpenAI, model: str):
    one, three = ask(client, model), ask(client, model, n=3)
    texts = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == one.choices[0].message.content
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * 24
    streamed, reasons = ["", "", ""], Counter[int]()
    for chunk in ask(client, model, n=3, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            reasons[choice.index] += choice.finish_reason is not None
    assert streamed == texts
    assert reasons == {0: 1, 1: 1, 2: 1}


def test_a_seed_fixes_the_answer_even_among_concurrent_requests(client: OpenAI, model: str):
    alone = {seed: text(client, model, seed=seed) for seed in (1, 2)}
    assert alone[1] != alone[2]
    with ThreadPoolExecutor(8) as pool:
        seeds = [1, 2] * 6
        assert list(pool.map(lambda seed: text(client, model, seed=seed), seeds)) == [alone[s] for s in seeds]


def test_without_a_seed_answers_differ(client: OpenAI, model: str):
    assert len({text(client, model, seed=openai.omit) for _ in range(4)}) > 1


def test_temperature_zero_is_greedy_and_one_is_the_default(client: OpenAI, model: str):
    assert text(client, model, temperature=0, seed=1) == text(client, model, temperature=0, seed=2)
    assert text(client, model, temperature=1, top_p=1) == text(client, model)
    assert text(client, model, temperature=1) != text(client, model, temperature=0)
    # A nucleus of next to nothing holds the likeliest token alone.
    assert text(client, model, top_p=1e-6) == text(client, model, temperature=0)


def test_the_answer_ends_before_a_stop_sequence(client: OpenAI, model: str):
    whole = text(client, model, max_tokens=60)
    at = next(
        i for i in range(5, len(whole)) if whole[i : i + 2].isascii() and whole[i : i + 2].isprintable()
    )
    stop = whole[at : at + 2]
    expected = whole[: whole.index(stop)]
    for stops in (stop, ["never to be seen", stop]):
        answer = ask(client, model, max_tokens=60, stop=stops)
        assert answer.choices[0].message.content == expected
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens < 60
    chunks = [
        choice
        for chunk in ask(client, model, max_tokens=60, stop=stop, stream=True)
        for choice in chunk.choices
    ]
    assert "".join(choice.delta.content or "" for choice in chunks) == expected
    assert chunks[-1].finish_reason == "stop"


def test_both_names_of_the_token_limit_limit(client: OpenAI, model: str):
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": openai.omit}):
        answer = ask(client, model, **limit)
        assert answer.usage.completion_tokens == 3
        assert answer.choices[0].finish_reason == "length"


def test_parameters_that_ask_for_nothing_are_accepted(client: OpenAI, model: str):
    answer = ask(
        client,
        model,
        n=1,
        logprobs=False,
        tools=[],
        response_format={"type": "text"},
        presence_penalty=0,
        frequency_penalty=0.0,
        user="me",
        service_tier="flex",
        store=True,
        metadata={"team": "sums"},
        prediction={"type": "content", "content": "Hello"},
        prompt_cache_retention="24h",
        reasoning_effort="high",
        verbosity="low",
    )
    assert answer.choices[0].message.content == text(client, model)


REFUSED: list[tuple[dict[str, Any], str | None]] = [
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logit_bias": {"99999": 5}}, "logit_bias"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"store": "yes"}, "store"),
    ({"metadata": {"team": 1}}, "metadata.team"),
    ({"reasoning_effort": "utmost"}, "reasoning_effort"),
    ({"temprature": 1}, "temprature"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stop": [""]}, "stop"),
    ({"mode": "mixed"}, None),
    ({"mode": "both"}, "mode"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
    ({"tool_choice": "required"}, None),
    ({"best_of_n": {"grader": {"type": "string_check"}}}, "best_of_n.grader.input"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "1"}]}, "messages.0"),
    ({"messages": [{"role": "user"}]}, "messages.0"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0"),
    ({"messages": [{"role": "user", "content": "x", "nick": "Ann"}]}, "messages.0.nick"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, None),
    ({"stream_options": {"include_usage": True}}, None),
]


@pytest.mark.parametrize(("extra", "param"), REFUSED, ids=[str(extra) for extra, _ in REFUSED])
def test_what_can_not_be_done_is_refused_by_name(
    serving: Deployment, model: str, extra: dict[str, Any], param: str | None
):
    body = {"model": model, "messages": HELLO, **extra}
    answer = httpx.post(f"{serving.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert all(key in error["message"] for key in extra if key != "messages")


def test_a_mode_that_contradicts_the_id_is_refused(client: OpenAI, model: str):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, f"{model}:high-entropy", extra_body={"mode": "normal"})
    assert (caught.value.code, caught.value.param) == ("mode_contradiction", "mode")
    assert model in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"model": "tiny:high-entropy"}, {"extra_body": {"mode": "high-entropy"}}]
)
def test_a_base_model_has_no_high_entropy_mode(client: OpenAI, options: dict[str, Any]):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **{"model": "tiny", **options})
    assert caught.value.code == "mode_not_available"


@pytest.mark.parametrize("status", ["queued", "running", "failed", "cancelled"])
def test_a_model_that_is_not_finished_is_named_with_its_jobs_status(
    serving: Deployment, client: OpenAI, status: str
):
    job = serving.add_job(status, finished_at=1.0 if status in ("failed", "cancelled") else None)
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, f"ft:tiny:policysplit::{job.id.removeprefix('ftjob-')[:10]}")
    assert caught.value.code == "model_not_ready"
    assert f"{job.id} is {status}" in str(caught.value)


def test_a_checkpoint_of_a_running_job_is_a_model(serving: Deployment, client: OpenAI):
    name = serving.add_checkpoint(serving.add_job("running"), 4)
    assert client.models.retrieve(f"{name}:high-entropy").id == f"{name}:high-entropy"
    with pytest.raises(openai.NotFoundError, match="no checkpoint of step 5"):
        ask(client, name.replace("step-4", "step-5"))


def test_an_unknown_model_is_answered_with_those_there_are(client: OpenAI, model: str):
    for name in ("gpt-9", "ft:tiny:policysplit::nosuchjob1", "ft:odd", "../tiny"):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(client, name)
        assert caught.value.code == "model_not_found"
        assert "tiny" in str(caught.value)
        assert model in str(caught.value)


def test_messages_that_the_template_refuses_are_the_clients_fault(serving: Deployment, client: OpenAI):
    template = (
        "{% if messages|length > 1 %}{{ raise_exception('One turn only') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    model = serving.add_finished(chat_template=template)
    assert ask(client, model).mode == "normal"
    two = [*HELLO, {"role": "assistant", "content": "Hi"}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="One turn only"):
            ask(client, model, messages=two, stream=stream)


def test_a_checkpoint_that_the_engine_cannot_load_is_answered_with_its_reason(
    serving: Deployment, client: OpenAI
):
    bad = serving.add_finished()
    config = serving.checkpoint_folder(bad) / "config.json"
    config.write_text('{"model_type": "no-such-architecture"}')
    with pytest.raises(openai.InternalServerError, match="no-such-architecture") as caught:
        ask(client, bad)
    assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")


def test_a_client_that_goes_away_ends_its_generation(serving: Deployment, client: OpenAI, model: str):
    expected = text(client, model)
    stream = ask(client, model, stream=True, max_tokens=1500, temperature=0)
    next(iter(stream))
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        ask(client, model, max_tokens=1500, temperature=0, n=4, timeout=0.5)
    # The engine is free long before those answers would have been complete, and its next one is unharmed.
    assert text(client, model) == expected
    until(lambda: all(engine["requests"] == 0 for engine in serving.engines()))
