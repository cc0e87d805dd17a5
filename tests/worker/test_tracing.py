"""Traces, at a real receiver: a job from its request through queue, attempts and steps to an answer."""

import subprocess
import sys
import time

import httpx
import pytest
from sqlalchemy import select

from app.core import tracing
from app.core.db import read_session
from app.core.tables import Job
from app.main import create_app
from tests.fixtures.api import GRADER, on_sqlite, running, sums
from tests.fixtures.engines import SCRIPTED_COMMAND, Deployment, until
from tests.fixtures.otlp import Receiver
from tests.fixtures.workers import Service
from worker.jobs import supervisor
from worker.shutdown import Shutdown

SECRETS = ("A very private question", "sk-nobody-may-know")


@on_sqlite
def test_a_job_is_one_trace_from_its_request_to_its_last_step(service: Service, traces: Receiver) -> None:
    tiny = service.settings.models_dir / "tiny"
    tiny.mkdir(parents=True)
    (tiny / "config.json").write_text("{}")
    service.script(default={"crash_after": 1, "checkpoint_every": 1}, attempt_2={})
    app = create_app()
    with running(app, service.settings.data_dir) as api:
        rows = [{**row, "messages": [{"role": "user", "content": SECRETS[0]}]} for row in sums(8)]
        with api.client(SECRETS[1]) as client:
            file = api.upload(client, rows)
        begun = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
        answer = httpx.post(
            f"{api.url}/v1/fine_tuning/jobs",
            headers={"traceparent": begun, "x-request-id": "mine-1"},
            json={
                "model": "tiny",
                "training_file": file,
                "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
            },
        )
        assert answer.status_code == 200, answer.text
        httpx.get(f"{api.url}/healthz")
    job = answer.json()["id"]
    for outcome in ("crashed", "succeeded"):
        assert supervisor.run_next("me", Shutdown()) == outcome
    tracing.close()

    (post,) = traces.named("POST /v1/fine_tuning/jobs")
    assert (post.trace, post.parent) == ("ab" * 16, "cd" * 8), "the client's trace goes on"
    assert post.attributes["http.response.status_code"] == 200
    assert post.attributes["policysplit.request.id"] == "mine-1"
    with read_session() as session:
        assert session.scalar(select(Job.traceparent)) == f"00-{post.trace}-{post.id}-01"
    first, second = traces.named("attempt")
    for number, (queue, attempt) in enumerate(zip(traces.named("queue"), (first, second), strict=True), 1):
        for one in (queue, attempt):
            assert (one.trace, one.parent) == (post.trace, post.id)
            assert one.attributes["rl.run.id"] == job and one.attributes["policysplit.attempt"] == number
        assert queue.end <= attempt.start + 0.001
    assert (first.failed, first.attributes["error.type"]) == (True, "error")
    assert (second.failed, second.attributes["policysplit.outcome"]) == (False, "succeeded")
    assert second.attributes["rl.model.name"] == "tiny" and second.attributes["rl.algorithm"]
    steps = traces.named("rl.loop")
    assert [one.attributes["rl.loop.step"] for one in steps] == list(range(1, len(steps) + 1))
    assert [one.parent for one in steps] == [first.id] + [second.id] * (len(steps) - 1)
    parts = traces.named("rl.sample")
    assert [one.parent for one in parts] == [one.id for one in steps]
    assert all(one.start >= step.start for one, step in zip(parts, steps, strict=True))
    assert not [one for one in traces.spans if "healthz" in str(one.attributes)]
    for secret in SECRETS:
        assert secret.encode() not in traces.raw


def test_an_answer_of_a_trained_model_is_linked_to_its_job(deployment: Deployment, traces: Receiver) -> None:

    trace = "12" * 16
    job = deployment.add_job("succeeded", traceparent=f"00-{trace}-{'34' * 8}-01")
    deployment.add_base("tiny")
    deployment.add_checkpoint(job, 10)
    deployment.start_api()
    deployment.start_inference(ENGINE_COMMAND=SCRIPTED_COMMAND)
    assert job.fine_tuned_model is not None
    answer = deployment.client().chat.completions.create(
        model=job.fine_tuned_model,
        messages=[{"role": "user", "content": SECRETS[0]}],
        max_tokens=4,
        temperature=0.5,
        seed=3,
    )
    until(lambda: traces.named("POST /samples") and traces.named("POST /v1/chat/completions"), 20)
    (request,) = traces.named("POST /v1/chat/completions")
    (chat,) = traces.named(f"chat {job.fine_tuned_model}")
    (sample,) = traces.named("POST /samples")
    assert (chat.parent, sample.parent) == (request.id, chat.id)
    assert {chat.trace, sample.trace} == {request.trace} and chat.links == (trace,)
    assert (request.service, sample.service) == ("policysplit-api", "policysplit-inference")
    assert answer.usage is not None
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": job.fine_tuned_model,
        "gen_ai.request.max_tokens": 4,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "policysplit.mode": "normal",
    }.items() <= chat.attributes.items()
    text = answer.choices[0].message.content
    assert text and text.encode() not in traces.raw and SECRETS[0].encode() not in traces.raw


def test_without_an_endpoint_nothing_is_imported_and_a_span_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import sys, app.main; app.main.create_app(); sys.exit('opentelemetry.exporter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert not tracing.is_on() and tracing.current() is None
    began = time.process_time()
    for _ in range(10_000):
        tracing.start("name", attributes={"rl.loop.step": 1}).end()
    assert time.process_time() - began < 0.1, "10 microseconds each"


def test_an_endpoint_without_the_packages_is_refused_before_anything_starts(
    traces: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(tracing.TracingMissing, match=r"install policysplit\[tracing\]"):
        tracing.set_up("api")
    assert not tracing.is_on()
