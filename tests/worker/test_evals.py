"""Runs of evals by workers: what items come to, and that none is lost or counted twice whatever happens."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, EvalOutputItem, EvalRun, Usage, WebhookDelivery
from app.evals import creation, runs
from app.evals import service as evals
from app.evals.objects import EvalRunObject, OutputItemObject
from app.evals.schemas import CreateEval, CreateEvalRun
from app.keys.service import create_project
from app.webhooks import service as webhooks
from app.webhooks.schemas import CreateEndpoint
from tests.fixtures.api import GRADER
from tests.fixtures.described import check_described
from tests.fixtures.evals import CONFIG, answered, asked
from tests.fixtures.http_server import Reply, Request, Server, chat
from tests.fixtures.workers import Service, WorkerProcess, eventually
from worker.evals import answers, running
from worker.evals.held import HeldRun, claim
from worker.evals.running import run_next
from worker.lease import LeaseLost
from worker.shutdown import Shutdown

PAGE = "http://localhost/"
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.5,
}
#: Gives 0 to 10, and fails on an empty answer.
LONG = {
    "type": "python",
    "name": "long",
    "source": "def grade(sample, item): return len(sample['output_text']) or 1 / 0",
    "range": [0, 10],
    "pass_threshold": 3,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "FLAG_SECONDS", 0.02)
    monkeypatch.setattr(running, "_AWAY_SECONDS", 0.02)
    monkeypatch.setattr(answers, "_FIRST_WAIT", 0.01)


def new_eval(*criteria: dict[str, Any]) -> str:
    body = {"data_source_config": CONFIG, "testing_criteria": list(criteria) or [GRADER]}
    return evals.create(DEFAULT_PROJECT, CreateEval.model_validate(body), None)["id"]


def new_run(eval_id: str, source: dict[str, Any]) -> str:
    request = CreateEvalRun.model_validate({"data_source": source})
    return creation.create(DEFAULT_PROJECT, eval_id, request, None, PAGE)["id"]


def shown(eval_id: str, run_id: str) -> dict[str, Any]:
    return runs.retrieve(DEFAULT_PROJECT, eval_id, run_id, PAGE)


def items(eval_id: str, run_id: str, status: Any = None) -> list[dict[str, Any]]:
    found = runs.items(DEFAULT_PROJECT, eval_id, run_id, after=None, limit=100, order="asc", status=status)
    for one in found:
        check_described(OutputItemObject, json.dumps(one))
    return found


def done(run_id: str) -> Counter[int]:
    with read_session() as session:
        return Counter(
            session.scalars(select(EvalOutputItem.position).where(EvalOutputItem.run_id == run_id))
        )


def questions(count: int) -> list[dict[str, Any]]:
    return [{"question": f"{number} + {number} = ?", "answer": str(2 * number)} for number in range(count)]


def solved(request: Request) -> Reply:
    """What a model that can add answers."""
    question = request.json["messages"][-1]["content"]
    return chat(str(2 * int(question.split()[0])))


@pytest.fixture
def endpoint(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An endpoint of the operator's, called ``theirs``, at which such a model answers."""
    told = {"theirs": {"url": server.url, "key_env": "THEIR_KEY"}}
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps(told))
    monkeypatch.setenv("THEIR_KEY", "sk-theirs")
    server.answer = solved
    yield server


def test_answers_that_are_there_are_graded_by_all_criteria(service: Service):
    url = "https://example.com/"
    hook = CreateEndpoint(name="x", url=url, event_types=["eval.run.succeeded", "eval.run.failed"])
    webhooks.create(DEFAULT_PROJECT, hook)
    eval_id = new_eval(GRADER, ALIKE, LONG)
    run_id = new_run(eval_id, answered("four", "four!", "", "six", wanted="four"))
    assert run_next("me", Shutdown()) == run_id
    assert run_next("me", Shutdown()) is None
    run = shown(eval_id, run_id)
    check_described(EvalRunObject, json.dumps(run))
    assert (run["status"], run["error"]) == ("completed", None)
    assert run["result_counts"] == {"total": 4, "passed": 1, "failed": 2, "errored": 1}
    assert run["progress"] == {"items": 4, "total_items": 4}
    by_name = {one["testing_criteria"]: one for one in run["per_testing_criteria_results"]}
    assert {name: (one["passed"], one["failed"], one["errored"]) for name, one in by_name.items()} == {
        "exact": (1, 3, 0),
        "alike": (2, 2, 0),
        "long": (3, 0, 1),
    }
    assert by_name["long"]["mean_score"] == pytest.approx((4 + 5 + 3) / 3), "on the grader's own scale"
    first, second, empty, other = items(eval_id, run_id)
    assert [one["status"] for one in (first, second, empty, other)] == ["pass", "fail", "error", "fail"]
    assert first["results"][2] == {
        "name": "long",
        "type": "python",
        "passed": True,
        "score": 4.0,
        "reward": 0.4,
        "error": None,
    }
    assert "ZeroDivisionError" in empty["results"][2]["error"] and empty["results"][2]["reward"] is None
    assert first["sample"]["output"] == [{"role": "assistant", "content": "four"}]
    assert [one["datasource_item_id"] for one in items(eval_id, run_id, "error")] == [2]
    assert runs.item(DEFAULT_PROJECT, eval_id, run_id, other["id"]) == other
    with read_session() as session:
        (delivery,) = session.scalars(select(WebhookDelivery))
        assert delivery.event_type == "eval.run.succeeded"
        assert json.loads(delivery.payload)["data"] == {"id": run_id}
        assert sum(session.scalars(select(Usage.gradings))) == 4 * 3


def test_items_alone_can_be_graded(local_service: Service):
    criterion = GRADER | {"input": "{{item.answer}}", "reference": "4"}
    eval_id = new_eval(criterion)
    run_id = new_run(eval_id, answered(None, None))
    run_next("me", Shutdown())
    assert shown(eval_id, run_id)["result_counts"]["passed"] == 2
    assert items(eval_id, run_id)[0]["sample"] is None


def test_a_run_of_which_nothing_can_be_told_has_failed(local_service: Service):
    eval_id = new_eval(LONG)
    run_id = new_run(eval_id, answered("", ""))
    run_next("me", Shutdown())
    run = shown(eval_id, run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "no_results")
    assert "The first failed with: " in run["error"]["message"] and run["result_counts"]["errored"] == 2


def test_an_endpoint_of_the_operators_answers(local_service: Service, endpoint: Server):
    calls = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]

    def answer(request: Request) -> Reply:
        match request.json["messages"][-1]["content"].split()[0]:
            case "1":
                return Reply({"choices": []})
            case "2":
                return Reply({"error": "too long"}, 400)
            case "3":
                return chat(None, tool_calls=calls)
            case "4":
                return chat("8", reasoning_content="4 and 4")
        return solved(request)

    endpoint.answer = answer
    tools = GRADER | {"name": "tool", "input": "{{sample.output_tools.0.function.name}}", "reference": "add"}
    thought = GRADER | {"name": "thought", "input": "{{sample.reasoning}}", "reference": "4 and 4"}
    eval_id = new_eval(GRADER, tools, thought)
    sampling = {"temperature": 0.5, "max_completion_tokens": 9, "seed": 3}
    source = asked("theirs-1", *questions(5), endpoint="theirs", sampling_params=sampling)
    run_id = new_run(eval_id, source)
    run_next("me", Shutdown())
    run, found = shown(eval_id, run_id), items(eval_id, run_id)
    assert run["status"] == "completed" and run["mode"] is None, run
    assert [one["results"][0]["passed"] if one["results"] else None for one in found] == [
        *(True, None, None, False, True)
    ]
    assert found[3]["results"][1]["passed"] and found[4]["results"][2]["passed"]
    assert found[1]["sample"]["error"]["message"] == "The answer is not a chat completion."
    assert "answered 400: " in found[2]["sample"]["error"]["message"]
    assert found[4]["sample"]["reasoning"] == "4 and 4"
    counts = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30, "cached_tokens": 0}
    assert run["per_model_usage"] == [{"model_name": "theirs-1", "invocation_count": 3} | counts]
    bodies = [request.json for request in endpoint.requests]
    assert {request.headers["authorization"] for request in endpoint.requests} == {"Bearer sk-theirs"}
    assert all((one["temperature"], one["max_completion_tokens"]) == (0.5, 9) for one in bodies)
    seeds = {one["messages"][0]["content"]: one["seed"] for one in bodies}
    assert len(set(seeds.values())) == 5 and seeds["0 + 0 = ?"] == 3, "each item has a seed of its own"
    again = new_run(eval_id, source)
    run_next("me", Shutdown())
    assert shown(eval_id, again)["status"] == "completed"
    bodies = [request.json for request in endpoint.requests[len(bodies) :]]
    assert {one["messages"][0]["content"]: one["seed"] for one in bodies} == seeds


def test_an_outage_is_waited_for_and_is_no_items_fault(local_service: Service, endpoint: Server):
    refusals = iter([503, 429, 500])

    def answer(request: Request) -> Reply:
        status = next(refusals, 200)
        return solved(request) if status == 200 else Reply({"error": "later"}, status)

    endpoint.answer = answer
    eval_id = new_eval()
    run_id = new_run(eval_id, asked("theirs-1", *questions(4), endpoint="theirs"))
    run_next("me", Shutdown())
    assert shown(eval_id, run_id)["result_counts"]["passed"] == 4


@pytest.mark.parametrize(("status", "code"), [(401, "endpoint_refused"), (503, "endpoint_unavailable")])
def test_a_run_fails_where_no_item_can_have_an_answer(
    local_service: Service, endpoint: Server, monkeypatch: pytest.MonkeyPatch, status: int, code: str
):
    monkeypatch.setattr(get_settings(), "engine_start_seconds", 0)
    monkeypatch.setattr("trainer.graders.remote.FIRST_WAIT_SECONDS", 0.001)
    endpoint.answer = lambda _request: Reply({"error": "no"}, status)
    eval_id = new_eval()
    run_id = new_run(eval_id, asked("theirs-1", *questions(3), endpoint="theirs"))
    run_next("me", Shutdown())
    run = shown(eval_id, run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", code)
    assert f"answered {status}" in run["error"]["message"] and not done(run_id)


class Gate:
    """Lets so many requests be answered; the others wait until it opens."""

    def __init__(self, server: Server, count: int):
        self._left = threading.Semaphore(count)
        self._open = threading.Event()
        server.answer = self._answer

    def open(self) -> None:
        self._open.set()

    def _answer(self, request: Request) -> Reply:
        if not self._left.acquire(blocking=False):
            self._open.wait(30)
        return solved(request)


@pytest.mark.parametrize("action", ["pause", "cancel", "shutdown"])
def test_a_run_under_way_is_stopped_and_goes_on_with_what_is_left(
    service: Service, endpoint: Server, thread_pool: ThreadPoolExecutor, action: str
):
    gate, shutdown, eval_id = Gate(endpoint, 5), Shutdown(), new_eval()
    run_id = new_run(eval_id, asked("theirs-1", *questions(40), endpoint="theirs"))
    running = thread_pool.submit(run_next, "me", shutdown)
    eventually(lambda: len(done(run_id)) == 5)
    if action == "shutdown":
        shutdown.request()
    else:
        told = getattr(runs, action)(DEFAULT_PROJECT, eval_id, run_id, PAGE)
        assert told["status"] == ("pausing" if action == "pause" else "in_progress")
    expected = {"pause": "paused", "cancel": "canceled", "shutdown": "queued"}[action]
    eventually(lambda: gate.open() or shown(eval_id, run_id)["status"] == expected)
    running.result(20)
    assert shown(eval_id, run_id)["progress"]["items"] == len(done(run_id)) >= 5
    if action == "cancel":
        assert run_next("me", Shutdown()) is None
        return
    if action == "pause":
        assert run_next("me", Shutdown()) is None
        runs.resume(DEFAULT_PROJECT, eval_id, run_id, PAGE)
    assert run_next("me", Shutdown()) == run_id
    run = shown(eval_id, run_id)
    assert (run["status"], run["result_counts"]["passed"]) == ("completed", 40)
    assert done(run_id) == Counter(range(40)), "each item once"
    assert run["per_model_usage"][0]["invocation_count"] == 40
    with read_session() as session:
        assert session.get_one(EvalRun, run_id).attempt == 1, "nobody lost it"


def test_who_lost_its_run_writes_nothing_more(service: Service, endpoint: Server):
    eval_id = new_eval()
    run_id = new_run(eval_id, asked("theirs-1", *questions(3), endpoint="theirs"))
    taken = claim("frozen")
    assert taken is not None and taken.id == run_id
    assert claim("other") is None, "it is held"
    frozen = HeldRun(taken)
    loaded = frozen.load()
    with write_session() as session:
        session.execute(update(EvalRun).values(lease_expires_at=0.0))
    assert run_next("other", Shutdown()) == run_id
    for write in (
        lambda: frozen.add(loaded, []),
        frozen.renew,
        frozen.complete,
        lambda: frozen.end("failed"),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert done(run_id) == Counter(range(3))


def test_a_run_that_takes_its_workers_along_is_given_up(local_service: Service):
    eval_id = new_eval()
    run_id = new_run(eval_id, answered("4"))
    for number in range(get_settings().max_attempts):
        assert claim(f"worker {number}") is not None
        with write_session() as session:
            session.execute(update(EvalRun).values(lease_expires_at=0.0))
    run_next("the last", Shutdown())
    run = shown(eval_id, run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "worker_lost")


def test_the_project_with_the_fewest_runs_under_way_is_next(local_service: Service):
    other = create_project("Another").id
    eval_id = new_eval()
    mine = [new_run(eval_id, answered("4")) for _ in range(3)]
    request = CreateEval.model_validate({"data_source_config": CONFIG, "testing_criteria": [GRADER]})
    of_other = service_of(other, request)
    order = [getattr(claim("me"), "id", None) for _ in range(5)]
    assert order == [mine[0], of_other, mine[1], mine[2], None]


def service_of(project: str, request: CreateEval) -> str:
    made = evals.create(project, request, None)["id"]
    run = CreateEvalRun.model_validate({"data_source": answered("4")})
    return creation.create(project, made, run, None, PAGE)["id"]


def test_a_killed_workers_run_goes_on_with_another(
    queued_service: Service,
    start_worker: Callable[[], WorkerProcess],
    endpoint: Server,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("POLICYSPLIT_LEASE_SECONDS", "2")
    get_settings.cache_clear()
    gate, eval_id = Gate(endpoint, 7), new_eval()
    run_id = new_run(eval_id, asked("theirs-1", *questions(30), endpoint="theirs"))
    first = start_worker()
    eventually(lambda: len(done(run_id)) == 7, 90)
    first.kill()
    gate.open()
    eventually(lambda: run_next("another", Shutdown()) == run_id)
    assert shown(eval_id, run_id)["status"] == "completed"
    assert shown(eval_id, run_id)["result_counts"]["passed"] == 30
    assert done(run_id) == Counter(range(30)), "each item once"
    with read_session() as session:
        assert session.get_one(EvalRun, run_id).attempt == 2
