"""vLLM behind the gateway, for real: adapters of several jobs on one base, and all that the engine can do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import torch
from openai import OpenAI

from app.core.settings import Settings
from app.inference.engine_request import EngineRequest
from tests.fixtures.engines import PROMPT, Deployment, engine_of, until
from tests.fixtures.templates import GEMMA, LLAMA3, QWEN3, TOOLS_QWEN
from tests.fixtures.vllm import HEAD_DIM
from tests.inference.test_token_ids import CONVERSATIONS, TEMPLATES
from trainer.model.policy import load_policy
from trainer.spec.chat_template import knows_developer
from trainer.spec.messages import conversation
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode, Placement, messages_for_mode
from worker.inference.engines.vllm import VllmEngine

pytestmark = pytest.mark.vllm

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
BASE = "tiny"
ARGUMENTS = [
    *("--dtype", "float32", "--max-model-len", "1024"),
    "--trust-request-chat-template",  # so that one engine stands for ten
]


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
TEN: dict[str, tuple[str, Placement, dict[str, Any]]] = {
    **{name: (text, "system", {}) for name, text in TEMPLATES.items()},
    "gemma": (GEMMA, "user_prefix", {}),
    "qwen3": (QWEN3, "system", {"enable_thinking": False}),
    "llama3": (LLAMA3, "system", {"date_string": "1 Jan 2001"}),
}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with vLLM, a base and two jobs' adapters on it; one engine, started by its first use."""
    deployment = Deployment(
        tmp_path_factory.mktemp("vllm"),
        ENGINE="vllm",
        ENGINE_START_SECONDS="400",
        ENGINE_KV_CACHE_BYTES=str(64 << 20),
        ENGINE_ARGUMENTS=json.dumps(ARGUMENTS),
    )
    deployment.add_base(BASE, head_dim=HEAD_DIM)
    try:
        deployment.start_api()
        deployment.start_inference()
        yield deployment
    finally:
        deployment.close()


@pytest.fixture(scope="module")
def models(vllm: Deployment) -> list[str]:
    """The results of two jobs that trained adapters."""
    base = vllm.folder / "models" / BASE
    return [vllm.add_finished(adapted=base, seed=seed) for seed in (1, 2)]


@pytest.fixture
def client(vllm: Deployment) -> OpenAI:
    return vllm.client()


def ask(client: OpenAI, model: str, **options: Any) -> Any:
    options = {"messages": HELLO, "max_tokens": 12, "seed": 7, **options}
    return client.chat.completions.create(model=model, **options)


def ask_engine(engine: dict[str, Any], path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """The engine's own answer: to a GET, or to a POST of ``body``."""
    transport = httpx.HTTPTransport(uds=engine["socket"])
    with httpx.Client(base_url="http://engine", transport=transport) as client:
        answer = client.get(path) if body is None else client.post(path, json=body)
        return answer.raise_for_status()


def metric(vllm: Deployment, name: str) -> float:
    """What the one engine counts under ``name``."""
    (engine,) = vllm.engines()
    lines = ask_engine(engine, "/metrics").text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith((f"vllm:{name}{{", f"vllm:{name} "))
    )


def test_adapters_of_many_jobs_share_one_engine_and_answer_as_their_merged_weights(
    vllm: Deployment, client: OpenAI, models: list[str]
):
    answers = {}
    for model in (*models, BASE):  # asked first, the base would be served without room for adapters
        answer = ask(client, model, temperature=0, logprobs=True, top_logprobs=2)
        answers[model] = answer.choices[0].message.content
        folder = vllm.folder / "models" / BASE if model == BASE else vllm.checkpoint_folder(model)
        policy = load_policy(ModelSpec(path=str(folder), dtype="float32"), PROMPT)
        ids = torch.tensor([policy.prompt_ids(HELLO, Mode.NORMAL)])
        with torch.no_grad():
            expected = policy.model(ids).logits[0, -1].float().log_softmax(-1).topk(2).values.tolist()
        first = answer.choices[0].logprobs.content[0]
        assert [top.logprob for top in first.top_logprobs] == pytest.approx(expected, abs=2e-3)
        assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
    assert len(set(answers.values())) == 3
    (engine,) = vllm.engines()
    assert {Path(path).parent for path in engine["adapters"]} == {vllm.checkpoint_folder(m) for m in models}
    # The gateway knows who has which adapter, and the engine is asked again without another load.
    until(lambda: len(vllm.workers()[0].loaded) == 3)
    assert ask(client, models[0], temperature=0).choices[0].message.content == answers[models[0]]


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]], ids=["", "system"])
@pytest.mark.parametrize("mode", list(Mode))
def test_served_ids_are_the_ids_of_a_training_row(
    vllm: Deployment, client: OpenAI, models: list[str], mode: Mode, system: list[Any]
):
    messages = [*system, {"role": "user", "content": "What is 2 + 2?"}]
    folder = vllm.checkpoint_folder(models[0])
    trained = load_policy(ModelSpec(path=str(folder), dtype="float32"), PROMPT).prompt_ids(messages, mode)
    answer = ask(client, models[0], messages=messages, max_tokens=1, extra_body={"mode": mode.value})
    assert answer.usage.prompt_tokens == len(trained)
    # The gateway's own request, sent to the engine with the wish to see the ids.
    request = EngineRequest(
        folder=str(folder),
        messages=messages_for_mode(messages, mode, PROMPT),
        max_tokens=1,
        temperature=1,
        top_p=1,
        seed=1,
        stop=[],
    )
    (engine,) = vllm.engines()
    call = VllmEngine(Settings()).call(request, folder / "adapter")
    body = {**call.body, "stream": False, "stream_options": None, "return_token_ids": True}
    said = ask_engine(engine, call.path, body).json()
    assert said["prompt_token_ids"] == trained


@pytest.mark.parametrize("template", TEN)
def test_any_templates_ids_are_those_of_training_in_both_modes(
    vllm: Deployment, client: OpenAI, models: list[str], template: str
):
    """Of texts in parts, developers, names, tools, their calls and results, where the template takes them."""
    base = vllm.folder / "models" / BASE
    text, placement, variables = TEN[template]
    policy = load_policy(
        ModelSpec(path=str(base), dtype="float32"),
        PROMPT,
        placement=placement,
        chat_template_kwargs=variables,
    )
    policy.tokenizer.chat_template = text
    if not vllm.engines():
        ask(client, models[0], max_tokens=1)
    (engine,) = vllm.engines()
    knows = knows_developer(text)
    names = ("user", "turns") if text == GEMMA else CONVERSATIONS
    for name in names:
        told = conversation({"messages": CONVERSATIONS[name], "tools": [ADD] if text == TOOLS_QWEN else None})
        for mode in Mode:
            request = EngineRequest(
                folder=str(base),
                messages=messages_for_mode(told.templated(knows_developer=knows), mode, PROMPT, placement),
                chat_template_kwargs=variables,
                temperature=1,
                top_p=1,
                seed=1,
                stop=[],
                extras={"tools": told.templated_tools()} if told.tools else {},
            )
            call = VllmEngine(Settings()).tokenize(request, None)
            body = {**call.body, "chat_template": text}
            served = ask_engine(engine, call.path, body).json()["tokens"]
            row = told.templated(knows_developer=True)
            assert served == policy.prompt_ids(row, mode, told.templated_tools()), (name, mode)


def test_what_the_engine_has_reaches_it(client: OpenAI, models: list[str]):
    model = models[0]
    plain = ask(client, model).choices[0].message.content
    assert ask(client, model).choices[0].message.content == plain
    forced = ask(client, model, logit_bias={"65": 100}, max_tokens=4)
    assert len(set(forced.choices[0].message.content)) == 1
    assert ask(client, model, temperature=0, presence_penalty=2, max_tokens=40).choices[
        0
    ].message.content != (ask(client, model, temperature=0, max_tokens=40).choices[0].message.content)
    form = {
        "type": "json_schema",
        "json_schema": {"name": "digit", "schema": {"type": "integer", "minimum": 1, "maximum": 9}},
    }
    number = ask(client, model, response_format=form).choices[0]
    assert number.message.content.strip() in set("123456789")
    assert number.finish_reason == "stop"
    function = {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
    }
    tools = {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    }
    called = ask(client, model, max_tokens=60, **tools).choices[0].message
    (call,) = called.tool_calls
    assert (call.type, call.function.name) == ("function", "add")
    assert call.function.arguments
    pieces: list[str] = []
    for chunk in ask(client, model, max_tokens=60, stream=True, **tools):
        for choice in chunk.choices:
            pieces += [part.function.arguments or "" for part in choice.delta.tool_calls or ()]
    assert "".join(pieces) == call.function.arguments
    # Left to itself this model calls nothing; what it says is an answer.
    assert ask(client, model, tools=tools["tools"], tool_choice="auto").choices[0].message.content


def test_streams_carry_logprobs_and_raw_prompts_may_be_token_ids(client: OpenAI, models: list[str]):
    model = models[1]
    whole = ask(client, model, n=2, logprobs=True)
    streamed: list[list[Any]] = [[], []]
    for chunk in ask(client, model, n=2, logprobs=True, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert [[token.logprob for token in one] for one in streamed] == [
        [token.logprob for token in choice.logprobs.content] for choice in whole.choices
    ]
    options: Any = {"model": model, "max_tokens": 5, "seed": 1, "logprobs": 2}
    by_text = client.completions.create(prompt="ab", **options)
    by_ids = client.completions.create(prompt=[[64, 65], [66]], **options)
    assert len(by_ids.choices) == 2
    for choice in (*by_text.choices, *by_ids.choices):
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert len(choice.logprobs.token_logprobs) == 5


@pytest.mark.parametrize("mode", list(Mode))
def test_a_prompt_is_echoed_with_what_its_tokens_cost_in_the_mode(
    vllm: Deployment, client: OpenAI, models: list[str], mode: Mode
):
    """Beside the model computed slowly, of text and of ids, streamed and not, and without an answer."""
    policy = load_policy(ModelSpec(path=str(vllm.checkpoint_folder(models[0])), dtype="float32"), PROMPT)
    text = "\nWhat is it? é" * 9
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    before = policy.tokenizer(f"{PROMPT}\n\n")["input_ids"] if mode is Mode.HIGH_ENTROPY else []
    with torch.no_grad():
        rows = policy.model(torch.tensor([before + ids])).logits[0].float().log_softmax(-1)[len(before) :]
    expected = [float(row[token]) for row, token in zip(rows[:-1], ids[1:], strict=True)]
    options: Any = {"model": models[0], "echo": True, "logprobs": 1, "temperature": 0}
    options["extra_body"] = {"mode": mode.value}
    for prompt in (text, ids):
        whole = client.completions.create(prompt=prompt, max_tokens=2, **options)
        told: Any = whole.choices[0].logprobs
        assert told.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=2e-3)
        assert (told.token_logprobs[0] is None) is (mode is Mode.NORMAL)
        assert len(told.tokens) == len(ids) + 2
        if prompt is text:
            assert whole.choices[0].text.startswith(text)
        pieces = [
            choice
            for chunk in client.completions.create(prompt=prompt, max_tokens=2, stream=True, **options)
            for choice in chunk.choices
        ]
        assert "".join(piece.text for piece in pieces) == whole.choices[0].text
        alone: Any = client.completions.create(prompt=prompt, max_tokens=0, **options).choices[0].logprobs
        assert alone.token_logprobs[1:] == pytest.approx(expected, abs=2e-3)


def test_what_exceeds_the_context_is_refused(client: OpenAI, models: list[str]):
    for options in ({"messages": [{"role": "user", "content": "x" * 1100}]}, {"max_tokens": 1100}):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, models[0], **options)
        assert caught.value.code == "context_length_exceeded"
        assert "1024" in str(caught.value)
    # No limit given: what the context has room for.
    answer = ask(
        client,
        models[0],
        messages=[{"role": "user", "content": "x" * 990}],
        max_tokens=openai.omit,
        temperature=0,
    )
    assert answer.usage.total_tokens == 1024


def test_the_mode_prompt_comes_from_the_prefix_cache(vllm: Deployment, client: OpenAI):
    prompt = "Wander far and wide before you answer, and do not settle for what is most direct. " * 3
    model = vllm.add_finished(adapted=vllm.folder / "models" / BASE, seed=3, prompt=prompt)

    def hits() -> float:
        (engine,) = vllm.engines()
        lines = ask_engine(engine, "/metrics").text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total")
        )

    def ask_about(subject: str) -> float:
        before = hits()
        messages = [{"role": "user", "content": f"Tell me of {subject}."}]
        ask(client, f"{model}:high-entropy", messages=messages, max_tokens=1)
        return hits() - before

    assert ask_about("rivers") < 100
    # All whole blocks of it; a character is a token here.
    assert ask_about("mountains") >= len(prompt) - 128


def test_a_client_that_goes_away_frees_the_engine(vllm: Deployment, client: OpenAI, models: list[str]):
    streams = [ask(client, models[0], stream=True, max_tokens=900, temperature=0) for _ in range(3)]
    for stream in streams:
        next(iter(stream))
    for stream in streams:
        stream.close()
    idle = {"num_requests_running": 0.0, "num_requests_waiting": 0.0}
    until(lambda: {name: metric(vllm, name) for name in idle} == idle, 10)
    until(lambda: all(one["requests"] == 0 for one in vllm.engines()), 10)


def test_the_death_of_its_core_ends_every_request_and_the_whole_engine(
    vllm: Deployment, client: OpenAI, models: list[str]
):
    """vLLM's server outlives its core for a while: what it says then is not an answer of ours. The last test:
    it does not wait for another start."""
    ask(client, models[0], max_tokens=1)
    (engine,) = vllm.engines()
    server = engine_of(engine["pid"])
    below = [server, *server.children(recursive=True)]
    (core,) = [one for one in below if "EngineCore" in one.name()]
    # One token again and again: an answer that could stop by itself may have done so before the kill.
    endless = {"stream": True, "max_tokens": 900, "logit_bias": {"65": 100}}
    streams = [ask(client, models[0], **endless) for _ in range(2)]
    for stream in streams:
        next(iter(stream))
    core.kill()
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, models[0], timeout=30)
    assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")
    assert "retry-after" in caught.value.response.headers
    for stream in streams:
        with pytest.raises(openai.APIError, match="cannot answer now"):
            for _ in stream:
                pass
    assert not psutil.wait_procs(below, timeout=20)[1]
