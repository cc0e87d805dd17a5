"""Trying graders through the unmodified SDK, in the types that it defines."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import urlsplit

import openai
import psutil
import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse

from app.graders.lane import PROJECT_RUNS
from tests.attack.payloads import METADATA, WAYS_IN, traps
from tests.fixtures.api import GRADER, Api, create_job, on_sqlite, sums
from tests.fixtures.engines import until
from tests.fixtures.http_server import Server, chat
from trainer.graders.grade import ErrorKind
from trainer.graders.spec import GRADER_TYPES

pytestmark = on_sqlite

PYTHON: dict[str, Any] = {
    "type": "python",
    "name": "code",
    "source": "def grade(sample, item):\n    return float(item['answer'] in sample['output_text'])",
}
SIMILAR: dict[str, Any] = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "rouge_1",
}
JUDGE: dict[str, Any] = {
    "type": "score_model",
    "name": "judge",
    "model": "judge-1",
    "input": [{"role": "user", "content": "Rate: {{sample.output_text}}"}],
    "range": [0, 10],
}
LABEL: dict[str, Any] = {
    "type": "label_model",
    "name": "label",
    "model": "judge-1",
    "input": JUDGE["input"],
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
MULTI: dict[str, Any] = {
    "type": "multi",
    "name": "both",
    "graders": {"exact": GRADER | {"operation": "like"}, "alike": SIMILAR},
    "calculate_output": "0.5 * exact + 0.5 * alike",
}


def run(
    client: openai.OpenAI, grader: dict[str, Any], sample: str = "x", item: Any = None
) -> GraderRunResponse:
    """The response, whose JSON is valid by the SDK's own type, strictly."""
    response = client.fine_tuning.alpha.graders.with_raw_response.run(
        grader=grader,  # type: ignore[arg-type]
        model_sample=sample,
        item=openai.omit if item is None else item,
    )
    GraderRunResponse.model_validate_json(response.text, strict=True)
    return response.parse()


def validate(client: openai.OpenAI, grader: dict[str, Any]) -> str:
    """The response's JSON."""
    call = client.fine_tuning.alpha.graders.with_raw_response.validate
    response = call(grader=grader)  # type: ignore[arg-type]
    assert isinstance(response.parse(), GraderValidateResponse)
    return response.text


def holds(shown: Any, given: Any) -> bool:
    """Whether ``shown`` says what ``given`` does, defaults filled in."""
    if isinstance(given, dict):
        return all(name in shown and holds(shown[name], value) for name, value in given.items())
    if isinstance(given, list):
        return len(shown) == len(given) and all(map(holds, shown, given))
    return shown == given


@pytest.mark.parametrize(
    ("grader", "text", "reward"),
    [
        (GRADER, "4", 1.0),
        (GRADER, "5", 0.0),
        (SIMILAR, "4 it is", 0.5),
        (PYTHON, "it is 4", 1.0),
        (MULTI, "4", 1.0),
        ({"type": "math_verify", "name": "m"}, "so \\boxed{2+2}", 1.0),
        ({"type": "environment", "name": "e", "task": "chain_sum", "extract": "last_number"}, "4", 1.0),
    ],
)
def test_local_graders_run(client: openai.OpenAI, grader: dict[str, Any], text: str, reward: float):
    response = run(client, grader, text, {"answer": "4", "metadata": {}})
    assert response.reward == pytest.approx(reward)
    assert (response.metadata.name, response.metadata.type) == (grader["name"], grader["type"])
    assert response.metadata.scores[grader["name"]] == pytest.approx(reward)
    assert not any(getattr(response.metadata.errors, flag) for flag in flags())
    assert response.metadata.execution_time >= 0
    assert response.sub_rewards == ({"exact": 1.0, "alike": 1.0} if grader is MULTI else {})


def flags() -> list[str]:
    from openai.types.fine_tuning.alpha.grader_run_response import MetadataErrors

    names = MetadataErrors.model_fields
    assert len(names) == 14
    found = [name for name, field in names.items() if field.annotation is bool]
    assert {(names[name].alias or name) for name in found} == set(get_args(ErrorKind))
    return found


def test_a_judge_runs_and_its_tokens_are_told(
    client: openai.OpenAI, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    server.answer = lambda _request: chat({"reasoning": "fine", "result": 5})
    response = run(client, JUDGE)
    assert (response.reward, response.metadata.scores) == (0.5, {"judge": 5.0})
    assert response.metadata.sampled_model_name == "judge-1"
    assert response.metadata.token_usage == 10
    usage = response.api_model_grader_token_usage_per_model
    assert usage == {"judge-1": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}

    server.answer = lambda _request: chat("no idea")
    response = run(client, JUDGE)
    assert (response.reward, response.metadata.errors.api_model_grader_parse_error) == (0.0, True)
    assert "no idea" in (response.metadata.model_extra or {})["error"]


@pytest.mark.parametrize(
    ("grader", "sample", "flag", "details"),
    [
        (GRADER, "x", "invalid_variable_error", None),
        (GRADER | {"input": "{{sample.output_json.a}}"}, "x", "sample_parse_error", None),
        (PYTHON, "x", "python_grader_runtime_error", "KeyError: 'answer' (line 2)"),
        (MULTI | {"calculate_output": "1 / (exact - exact)"}, "x", "invalid_variable_error", None),
        ({"type": "math_verify", "name": "m", "reference": " "}, "x", "other_error", None),
    ],
)
def test_an_error_is_flagged_and_never_silently_a_zero(
    client: openai.OpenAI, grader: dict[str, Any], sample: str, flag: str, details: str | None
):
    response = run(client, grader, sample)
    errors = response.metadata.errors
    assert [name for name in flags() if getattr(errors, name)] == [flag]
    assert (response.metadata.model_extra or {})["error"]
    if details is not None:
        assert errors.python_grader_runtime_error_details == details


def test_hostile_code_costs_a_moment_and_an_error(client: openai.OpenAI):
    for body in ("while True: pass", "return open('/etc/passwd').read()", "import os; os.fork()"):
        source = f"def grade(sample, item):\n    {body}"
        response = run(client, PYTHON | {"source": source, "timeout_seconds": 0.5})
        assert response.metadata.errors.python_grader_runtime_error, body


@pytest.mark.parametrize("grader", [GRADER, SIMILAR, PYTHON, MULTI], ids=lambda grader: grader["type"])
def test_a_valid_grader_comes_back_as_it_was(client: openai.OpenAI, grader: dict[str, Any]):
    text = validate(client, grader)
    assert json.loads(text) == {"grader": grader}
    if grader is not MULTI:  # its type in the SDK has one grader where the service takes them by name
        GraderValidateResponse.model_validate_json(text, strict=True)


def test_a_multi_grader_as_the_sdk_types_it(client: openai.OpenAI):
    grader = MULTI | {"graders": SIMILAR, "calculate_output": "alike"}
    GraderValidateResponse.model_validate_json(validate(client, grader), strict=True)
    assert run(client, grader, "4", {"answer": "4"}).reward == 1.0


BAD: list[tuple[dict[str, Any], str, str]] = [
    (
        {"type": "magic"},
        "grader",
        "'string_check', 'text_similarity', 'score_model', 'label_model', 'python'",
    ),
    ({}, "grader", "needs the key 'type'"),
    (LABEL | {"passing_labels": ["b"]}, "grader", "labels does not have"),
    (GRADER | {"operation": "is"}, "grader.operation", "'eq', 'ne', 'like' or 'ilike'"),
    (GRADER | {"inptu": 1}, "grader.inptu", "Did you mean 'input'?"),
    (GRADER | {"input": "{{ sample.text }}"}, "grader.input", "sample.output_text"),
    (GRADER | {"reference": 4}, "grader.reference", "valid string"),
    (SIMILAR | {"evaluation_metric": "jaccard"}, "grader.evaluation_metric", "'fuzzy_match', 'bleu'"),
    (SIMILAR | {"evaluation_metric": "cosine"}, "grader.endpoint", "no endpoint 'default'"),
    (PYTHON | {"source": "x = 1"}, "grader.source", "does not define grade(sample, item)"),
    (PYTHON | {"source": "def grade(sample, item)\n  return 1"}, "grader.source", "SyntaxError"),
    (PYTHON | {"memory_mb": 1}, "grader.memory_mb", "greater than or equal to 64"),
    (JUDGE, "grader.endpoint", "no endpoint 'default'"),
    (JUDGE | {"base_url": "http://169.254.169.254/v1"}, "grader.base_url", "not have a public address"),
    (JUDGE | {"range": [1, 0]}, "grader.range", "lower one first"),
    (JUDGE | {"input": [{"role": "tool", "content": "x"}]}, "grader.input.0.role", "'user', 'assistant'"),
    (MULTI | {"calculate_output": "exact +"}, "grader.calculate_output", "ends where"),
    (MULTI | {"calculate_output": "other"}, "grader.calculate_output", "the graders are: alike, exact"),
    (MULTI | {"calculate_output": "__import__('os')"}, "grader.calculate_output", "not a number"),
    (
        MULTI | {"graders": {"exact": GRADER | {"operation": "is"}}},
        "grader.graders.exact.operation",
        "'eq', 'ne', 'like' or 'ilike'",
    ),
    (MULTI | {"graders": {"a": MULTI}}, "grader.graders.a", "should be one of"),
    (
        MULTI | {"graders": {"a": PYTHON | {"source": "def grade(s, i)"}}, "calculate_output": "a"},
        "grader.graders.a.source",
        "SyntaxError",
    ),
    ({"type": "http", "url": "http://10.0.0.1/", "secret": "x"}, "grader.secret", "no secret 'x'"),
    ({"type": "environment", "task": "nope"}, "grader.task", "not a reasoning-gym task"),
    (
        {"type": "environment", "task": "spell_backward", "parameters": {"data_file": "/etc/passwd"}},
        "grader.parameters.data_file",
        "it names a file",
    ),
    (PYTHON | {"source": f"import torch\n{PYTHON['source']}"}, "grader.source", "imports torch, which a"),
    ({"type": "math_verify", "timeout_seconds": 0}, "grader.timeout_seconds", "greater than 0"),
]


@pytest.mark.parametrize(("grader", "param", "says"), BAD)
def test_a_bad_grader_is_a_400_that_names_the_field(
    client: openai.OpenAI, grader: dict[str, Any], param: str, says: str
):
    for call in (lambda: run(client, grader), lambda: validate(client, grader)):
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.param == param
        assert says in caught.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"grader": GRADER, "model_sample": 5}, "model_sample"),
        ({"grader": GRADER}, "model_sample"),
        ({"grader": GRADER, "model_sample": "x", "item": []}, "item"),
        ({"grader": GRADER, "model_sample": "x", "items": {}}, "items"),
        ({"model_sample": "x"}, "grader"),
    ],
)
def test_a_bad_body_is_a_400(client: openai.OpenAI, body: dict[str, Any], param: str):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/fine_tuning/alpha/graders/run", body=body, cast_to=object)
    assert caught.value.param == param


def test_every_type_is_accepted_in_a_job(
    client: openai.OpenAI, api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    monkeypatch.setenv("POLICYSPLIT_GRADER_SECRETS", '{"hook": "HOOK"}')
    monkeypatch.setenv("HOOK", "not to be seen")
    graders: list[dict[str, Any]] = [
        *(GRADER, SIMILAR, PYTHON, JUDGE, LABEL, MULTI),
        {"type": "math_verify"},
        {"type": "environment", "task": "chain_sum"},
        {"type": "http", "url": "https://example.com/reward", "secret": "hook"},
        {"type": "creative_writing", "model": "judge-1", "prompt": "{{item.answer}}"},
    ]
    assert {grader["type"] for grader in graders} == set(GRADER_TYPES)
    file = api.upload(client, sums())
    for grader in graders:
        job = create_job(client, api, file, reinforcement={"grader": grader})
        text = client.fine_tuning.jobs.with_raw_response.retrieve(job.id).text
        assert holds(json.loads(text)["method"]["reinforcement"]["grader"], grader)
        assert "not to be seen" not in text
    assert server.requests == []


@pytest.mark.parametrize(
    ("grader", "param", "says"),
    [
        (SIMILAR | {"reference": "{{item.nothing}}"}, "training_file", "'item.nothing', which line 1"),
        ({"type": "math_verify", "reference": "{{item.nothing}}"}, "training_file", "'item.nothing'"),
        (
            MULTI | {"graders": {"a": SIMILAR | {"input": "{{item.no}}"}}, "calculate_output": "a"},
            "training_file",
            "'item.no', which line 1",
        ),
        (PYTHON | {"source": "def grade(x"}, "method.reinforcement.grader.source", "SyntaxError"),
        (
            PYTHON | {"source": f"import torch\n{PYTHON['source']}"},
            "method.reinforcement.grader.source",
            "imports torch",
        ),
        (
            {"type": "environment", "task": "spell_backward", "parameters": {"data_file": "/etc/passwd"}},
            "method.reinforcement.grader.parameters.data_file",
            "names a file",
        ),
        (JUDGE | {"endpoint": "no"}, "method.reinforcement.grader.endpoint", "no endpoint 'no'"),
    ],
)
def test_a_job_with_a_bad_grader_is_refused(
    client: openai.OpenAI, api: Api, grader: dict[str, Any], param: str, says: str
):
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        create_job(client, api, api.upload(client, sums()), reinforcement={"grader": grader})
    assert caught.value.param == param


def test_too_many_runs_at_a_time_are_told_to_wait(api: Api, server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    monkeypatch.setattr("app.graders.lane.WAIT_SECONDS", 0.1)
    asked, release = threading.Semaphore(0), threading.Event()

    def hold(_request: Any):
        asked.release()
        release.wait(60)
        return chat({"result": 1})

    server.answer = hold
    with api.client() as client:
        threads = [threading.Thread(target=run, args=(client, JUDGE)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert asked.acquire(timeout=30)
        try:
            with pytest.raises(openai.RateLimitError) as caught:
                run(client, JUDGE)
            assert caught.value.response.headers["retry-after"] == "5"
        finally:
            release.set()
            for thread in threads:
                thread.join()


def test_text_that_a_scorer_evaluates_does_nothing_outside(client: openai.OpenAI):
    """From a response, a row's answer and its metadata, each with another thing to do."""
    task = "polynomial_multiplication"
    grader = {"type": "environment", "name": "e", "task": task}
    with traps() as set_:
        texts = {what: WAYS_IN[task].format(payload=one) for what, one in set_.payloads().items()}
        for what, text in texts.items():
            run(client, grader, text, {"answer": "x", "metadata": METADATA})
            assert set_.sprung() is None, what
        row = {"answer": texts["writes a file"], "metadata": dict.fromkeys(METADATA, texts["opens a socket"])}
        run(client, grader, "x", row)
        run(client, {"type": "math_verify", "name": "m"}, texts["starts a process"], row)
        assert set_.sprung() is None


#: At its import, where no function was called yet.
BOMBS = {
    "runs for ever": ("while True: pass", "longer than 2 s"),
    "takes all memory": ("x = 'x' * (1 << 40)", "MemoryError"),
    "starts processes": ("import os\nwhile True: os.fork()", "PermissionError"),
    "fills the disk": ("for n in range(99999): open(f'/tmp/{n}', 'w').write('x' * 99999)", "OSError"),
    "nests": ("x = " + "(" * 150 + "0" + ")" * 150, None),
    "ends it": ("import os\nos._exit(0)", "exited with code 0"),
}


def test_a_source_that_is_a_bomb_when_it_is_imported(client: openai.OpenAI, api: Api):
    """Stays in its sandbox, and none of it is run where a grader is checked or a job is made."""
    file = api.upload(client, sums())
    for name, (bomb, says) in BOMBS.items():
        grader = PYTHON | {"source": f"{bomb}\n{PYTHON['source']}", "timeout_seconds": 2}
        error = json.loads(run(client, grader, "4", {"answer": "4"}).metadata.to_json()).get("error")
        assert error is None if says is None else says in error, name
        validate(client, grader)
        create_job(client, api, file, reinforcement={"grader": grader})


def test_what_a_client_left_is_dropped(api: Api):
    """Its sandbox ends, and its place is free, long before the grader would have been done."""
    sleeper = PYTHON | {"source": "import time\ndef grade(sample, item):\n    time.sleep(50)\n    return 1.0"}
    body = json.dumps({"grader": sleeper, "model_sample": "x"}).encode()
    before = sandboxes()
    address = urlsplit(api.url)
    began = time.monotonic()
    for _ in range(2):
        clients = [socket.create_connection((address.hostname, address.port)) for _ in range(PROJECT_RUNS)]
        head = f"POST /v1/fine_tuning/alpha/graders/run HTTP/1.1\r\nhost: {address.netloc}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        for one in clients:
            one.sendall(head.encode() + body)
        until(lambda: len(sandboxes() - before) >= PROJECT_RUNS)
        for one in clients:
            one.close()
        until(lambda: not sandboxes() - before)
    assert time.monotonic() - began < 40
    with api.client() as client:
        assert run(client, GRADER, "4", {"answer": "4"}).reward == 1.0


def sandboxes() -> set[int]:
    """The processes of sandboxes that this one has started."""
    found = set()
    for one in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if one.name() == "bwrap":
                found.add(one.pid)
    return found


def test_the_api_stays_free_of_torch_when_it_runs_graders(database_kind: str):
    code = """
import sys
from app.graders import service
from app.graders.schemas import RunGrader
graders = [
    {"type": "string_check", "input": "{{sample.output_text}}", "reference": "x"},
    {"type": "python", "source": "def grade(sample, item):\\n    return 1"},
    {"type": "math_verify", "reference": "1"},
] + [
    {"type": "text_similarity", "input": "x", "reference": "x y", "evaluation_metric": metric}
    for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_l")
]
for grader in graders:
    request = RunGrader.model_validate({"grader": grader, "model_sample": "1"})
    assert service.run(request, lambda: None).metadata.error is None
assert not {"torch", "transformers"} & set(sys.modules), "heavy"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
