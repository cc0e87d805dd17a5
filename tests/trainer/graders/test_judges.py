"""Judge models: what they are asked, how their answers are read, and what is an error."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.fixtures.http_server import Reply, Request, Server, chat
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grader
from trainer.graders.spec import Grader as GraderSpec

SPECS: TypeAdapter[Any] = TypeAdapter(GraderSpec)
SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "judge-1",
    "input": [
        {"role": "developer", "content": "Score it."},
        {"role": "user", "content": [{"type": "input_text", "text": "{{item.q}}"}, "{{sample.output_text}}"]},
    ],
    "range": [0, 10],
    "max_retries": 0,
}


LABEL = {
    "type": "label_model",
    "name": "kind",
    "model": "judge-1",
    "input": [{"role": "user", "content": "Is it right? {{sample.output_text}}"}],
    "labels": ["right", "wrong", "US", "us"],
    "passing_labels": ["right", "us"],
    "max_retries": 0,
}


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    endpoints = {"default": {"url": f"{server.url}/v1", "key_env": "JUDGE_KEY"}, "open": {"url": server.url}}
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps(endpoints))
    monkeypatch.setenv("JUDGE_KEY", "sk-judge")


@pytest.fixture
def build() -> Iterator[Callable[..., Grader]]:
    built: list[Grader] = []

    def make(definition: dict[str, Any], **changes: Any) -> Grader:
        built.append(build_grader(SPECS.validate_python(definition | changes)))
        return built[-1]

    yield make
    for grader in built:
        grader.close()


def saying(content: Any, **message: Any) -> Callable[[Request], Reply]:
    return lambda _request: chat(content, **message)


def test_it_asks_the_operators_endpoint_with_the_operators_key(build: Callable[..., Grader], server: Server):
    server.answer = saying({"reasoning": "good", "result": 7.5})
    grader = build(SCORE, sampling_params={"temperature": 0, "seed": 1, "max_completions_tokens": 99})
    grade = grader({"q": "Q?"}, "{{item.q}}")
    assert (grade.reward, grade.scores, grade.own_scale) == (0.75, {"judge": 7.5}, 7.5)
    assert grade.usage == {"judge-1": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    (request,) = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-judge")
    body = request.json
    system, user = body["messages"]
    assert user == {"role": "user", "content": "Q?\n{{item.q}}"}
    assert system["role"] == "system" and system["content"].startswith("Score it.\n\n")
    assert '"result": a number from 0 to 10' in system["content"]
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0, 1, 99)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"] == {"type": "number", "minimum": 0, "maximum": 10}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"result": 3}', 3),
        ('{"result": "3.5", "steps": []}', 3.5),
        ('Here you are:\n```json\n{"result": 4}\n```\nGood luck!', 4),
        ('I think {it} is fine. {"result": 1} No: {"reasoning": "{x}", "result": 5}', 5),
        (" 6 ", 6),
        ('<think>{"result": 1}</think>{"result": 2}', 2),
        ('{"result": 0}', 0),
    ],
)
def test_scores_are_found_however_they_are_written(
    build: Callable[..., Grader], server: Server, text: str, score: float
):
    server.answer = saying(text)
    assert build(SCORE)({"q": ""}, "x").own_scale == score


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (chat("It is worth 7 of 10, I say."), "model_grader_parse_error", "It is worth 7 of 10"),
        (chat('{"result": 11}'), "model_grader_parse_error", "result is 11, not from 0 to 10"),
        (chat('{"result": -1}'), "model_grader_parse_error", "not from 0 to 10"),
        (chat('{"result": NaN}'), "model_grader_parse_error", "not from 0 to 10"),
        (chat('{"result": true}'), "model_grader_parse_error", "result is True"),
        (chat('{"result": null}'), "model_grader_parse_error", "result is None"),
        (chat('{"result": [1]}'), "model_grader_parse_error", "not a number"),
        (chat('{"score": 3}'), "model_grader_parse_error", "no JSON object with 'result'"),
        (chat("{" * 100_000), "model_grader_parse_error", "no JSON object"),
        (chat('{"a":' * 50_000), "model_grader_parse_error", "no JSON object"),
        (chat(""), "model_grader_parse_error", "empty"),
        (chat(None), "model_grader_parse_error", "empty"),
        (chat(None, refusal="I will not."), "model_grader_refusal_error", "I will not."),
        (Reply({"choices": []}), "model_grader_server_error", "not a chat completion"),
        (Reply({"choices": "x"}), "model_grader_server_error", "not a chat completion"),
        (Reply(b"oops", status=500), "model_grader_server_error", "answered 500: oops"),
        (Reply(b"who?", status=401), "model_grader_server_error", "answered 401"),
    ],
)
def test_an_answer_without_a_score_is_an_error_of_its_kind(
    build: Callable[..., Grader], server: Server, reply: Reply, kind: str, says: str
):
    server.answer = lambda _request: reply
    grade = build(SCORE)({"q": ""}, "x")
    assert (grade.reward, grade.kind) == (None, kind)
    assert grade.error is not None and says in grade.error and "sk-judge" not in grade.error


def test_an_endpoint_that_knows_no_schemas_is_asked_without(build: Callable[..., Grader], server: Server):
    def plain(request: Request) -> Reply:
        if "response_format" in request.json:
            return Reply({"error": {"message": "unknown: response_format"}}, status=400)
        return chat('{"result": 10}')

    server.answer = plain
    grader = build(SCORE, concurrency=1)
    assert [grader({"q": ""}, "x").reward for _ in range(3)] == [1.0] * 3
    assert ["response_format" in request.json for request in server.requests] == [True, False, False, False]


def _only_user_turns(request: Request) -> str | None:
    """Gemma's chat template: no system role, and turns that take turns."""
    roles = [message["role"] for message in request.json["messages"]]
    return (
        None if roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] else "System role not supported"
    )


def _system_first(request: Request) -> str | None:
    """Qwen 3.5's: a system message stands first or not at all."""
    late = [one for one in request.json["messages"][1:] if one["role"] == "system"]
    return "System message must be at the beginning." if late else None


INPUTS = {
    "user": [{"role": "user", "content": "Grade: {{sample.output_text}}"}],
    "system": [{"role": "system", "content": "Grade: {{sample.output_text}}"}],
    "late system": [
        {"role": "user", "content": "Grade"},
        {"role": "assistant", "content": "What?"},
        {"role": "user", "content": "this: {{sample.output_text}}"},
        {"role": "system", "content": "Be strict."},
    ],
    "two users": [
        {"role": "user", "content": "Grade"},
        {"role": "user", "content": "{{sample.output_text}}"},
    ],
}


@pytest.mark.parametrize("rule", [_system_first, _only_user_turns])
@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_asked_keeps_the_judges_rules(
    build: Callable[..., Grader], server: Server, kind: str, rule: Callable[[Request], str | None]
):
    def answer(request: Request) -> Reply:
        if problem := rule(request):
            return Reply({"error": {"message": problem}}, status=400)
        return chat('{"result": 10}')

    server.answer = answer
    grader = build(SCORE, input=INPUTS[kind], concurrency=1)
    assert [grader({}, "THIS").reward for _ in range(2)] == [1.0, 1.0]
    told = server.requests[-1].json
    text = "\n".join(one["content"] for one in told["messages"])
    assert all(part in text for part in ("THIS", '"result": a number from 0 to 10'))
    assert "response_format" in told  # which it took; the roles were the trouble
    assert rule(server.requests[-1]) is None and len(server.requests) <= 4


def test_a_base_url_gets_no_key_and_must_be_public(
    build: Callable[..., Grader], server: Server, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(InvalidSpec, match="not have a public address") as caught:
        build(SCORE, base_url=f"{server.url}/v1")
    assert caught.value.param == "grader.base_url"
    monkeypatch.setenv("POLICYSPLIT_GRADER_ALLOWED_HOSTS", '["127.0.0.1"]')
    server.answer = saying({"result": 1})
    assert build(SCORE, base_url=f"{server.url}/v1")({"q": ""}, "x").own_scale == 1
    assert "authorization" not in server.requests[-1].headers


def test_endpoints_are_the_operators_by_name(build: Callable[..., Grader], server: Server):
    server.answer = saying({"result": 1})
    assert build(SCORE, endpoint="open")({"q": ""}, "x").own_scale == 1
    assert (server.requests[-1].path, "authorization" in server.requests[-1].headers) == (
        "/chat/completions",
        False,
    )
    with pytest.raises(InvalidSpec, match=r"no endpoint 'other'.*default, open"):
        build(SCORE, endpoint="other")
    with pytest.raises(ValueError, match="both endpoint and base_url"):
        build(SCORE, endpoint="open", base_url="https://example.com")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"range": [1, 1]}, "lower one first"),
        ({"range": [5, 0]}, "lower one first"),
        ({"range": [0]}, "at least 2"),
        ({"input": []}, "at least 1"),
        ({"input": [{"role": "user", "content": "{{x.y}}"}]}, "'x.y' is unknown"),
        ({"input": [{"role": "user", "content": {"type": "input_image", "image_url": "x"}}]}, "input_text"),
        ({"sampling_params": {"top_k": 1}}, "top_k"),
    ],
)
def test_definitions_that_cannot_work_are_refused(change: dict[str, Any], says: str):
    with pytest.raises(ValueError, match=says):
        SPECS.validate_python(SCORE | change)


def test_creative_writing_is_the_mean_of_five_criteria(build: Callable[..., Grader], server: Server):
    scores = {"creativity": 20, "originality": 10, "narrative_flow": 15, "emotional_impact": 5, "imagery": 0}
    server.answer = saying(scores)
    grade = build({"type": "creative_writing", "model": "judge-1"})({"prompt": "A sea"}, "Waves.")
    assert grade.reward == pytest.approx(50 / 100)
    assert grade.scores == {"creative_writing": pytest.approx(0.5)} | scores
    system, user = server.requests[0].json["messages"]
    assert all(system["content"].count(name) == 2 for name in scores)  # explained, and in the form
    assert user["content"] == "# The prompt\nA sea\n\n# The text\nWaves."

    server.answer = saying(dict.fromkeys(scores, 5))
    assert build({"type": "creative_writing", "model": "m", "scale": 10})({"prompt": ""}, "x").reward == 0.5
    server.answer = saying(dict.fromkeys(list(scores)[1:], 5))
    missing = build({"type": "creative_writing", "model": "m"})({"prompt": ""}, "x")
    assert (missing.reward, missing.kind) == (None, "model_grader_parse_error")


COSINE = {
    "type": "text_similarity",
    "name": "alike",
    "evaluation_metric": "cosine",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
    "model": "embedder",
    "max_retries": 0,
}


def test_cosine_asks_for_embeddings(build: Callable[..., Grader], server: Server):
    def embeddings(request: Request) -> Reply:
        vectors = {"x": [1.0, 0.0], "y": [0.6, 0.8], "z": [-1.0, 0.0]}
        rows = [{"index": n, "embedding": vectors[text]} for n, text in enumerate(request.json["input"])]
        return Reply({"data": rows[::-1], "usage": {"prompt_tokens": 2, "total_tokens": 2}})

    server.answer = embeddings
    grader = build(COSINE)
    assert grader({"a": "y"}, "x").reward == pytest.approx(0.6)
    opposite = grader({"a": "z"}, "x")
    assert (opposite.reward, opposite.scores) == (0.0, {"alike": -1.0})
    assert opposite.usage == {"embedder": {"total_tokens": 2}}
    assert (server.requests[0].path, server.requests[0].json["model"]) == ("/v1/embeddings", "embedder")
    server.answer = lambda _request: Reply({"data": [{"index": 0, "embedding": [1.0]}]})
    assert grader({"a": "y"}, "x").kind == "model_grader_server_error"


def test_a_formula_sees_the_judges_own_scale(build: Callable[..., Grader], server: Server):
    server.answer = saying({"result": 8})
    multi = {"type": "multi", "graders": {"judge": SCORE}, "calculate_output": "judge / 16"}
    grade = build(multi)({"q": ""}, "x")
    assert (grade.reward, grade.usage["judge-1"]["total_tokens"]) == (0.5, 10)


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ('<think>First `{"result": 1}`.\n```json\n{"result": 2}\n```</think>{"result": 8}', 0.8),
        ("<think>A 3 at most? No.</think>\n\n7", 0.7),
        ('<think>Perhaps {"result": 3}, but', None),
    ],
)
def test_a_judges_thoughts_are_not_its_score(
    build: Callable[..., Grader], server: Server, said: str, reward: float | None
):
    server.answer = saying(said)
    grade = build(SCORE)({"q": "Q?"}, "text")
    assert grade.reward == reward
    assert (grade.kind == "model_grader_parse_error") is (reward is None)


def test_a_judge_chooses_among_labels(build: Callable[..., Grader], server: Server):
    server.answer = saying({"reasoning": "so", "result": "wrong"})
    grade = build(LABEL)({}, "4")
    assert (grade.reward, grade.scores) == (0.0, {"kind": 0.0})
    assert grade.usage == {"judge-1": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    body = server.requests[0].json
    assert 'one of ["right", "wrong", "US", "us"]' in body["messages"][0]["content"]
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"] == {"type": "string", "enum": LABEL["labels"]}


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ('{"result": "right"}', 1.0),
        ('{"result": "Right"}', 1.0),
        ("wrong", 0.0),
        ("**right**.\n", 1.0),
        ("us", 1.0),
        ("US", 0.0),
        ('<think>{"result": "wrong"}</think>{"result": "right"}', 1.0),
        ("Us", None),
        ("It is right.", None),
        ('{"result": ["right"]}', None),
        ('{"result": "maybe"}', None),
        ("", None),
    ],
)
def test_a_label_is_found_however_it_is_written_and_guessed_never(
    build: Callable[..., Grader], server: Server, text: str, reward: float | None
):
    server.answer = saying(text)
    grade = build(LABEL)({}, "4")
    assert grade.reward == reward
    assert (grade.kind == "model_grader_parse_error") is (reward is None)


def test_a_label_counts_within_a_formula(build: Callable[..., Grader], server: Server):
    server.answer = saying({"result": "right"})
    exact = {"type": "string_check", "name": "e", "input": "{{sample.output_text}}", "reference": "4"}
    graders = {"label": LABEL, "exact": exact}
    formula = {
        "type": "multi",
        "name": "m",
        "graders": graders,
        "calculate_output": "0.25 * label + 0.75 * exact",
    }
    grade = build(formula)({}, "5")
    assert (grade.reward, grade.scores) == (0.25, {"label": 1.0, "exact": 0.0, "m": 0.25})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": []}, "at least 1"),
        ({"labels": ["right", "right", "us"]}, "'right' appears 2 times"),
        ({"passing_labels": []}, "at least 1"),
        ({"passing_labels": ["good"]}, "passing_labels has 'good', which labels does not have"),
    ],
)
def test_labels_that_cannot_be_are_refused(change: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        SPECS.validate_python(LABEL | change)
