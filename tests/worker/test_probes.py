"""Estimates: what is tried, what is estimated from it, and who may write it down."""

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.core.db import read_session, write_session
from app.core.ids import new_estimate_id
from app.core.tables import DEFAULT_PROJECT, Estimate
from app.estimates import repository
from app.estimates.service import announce
from tests.fixtures.workers import Service, WorkerProcess, eventually
from tests.worker.test_real_trainer import run_spec
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Finished, Started, StepMetrics
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, PreflightSpec, RunSpec
from trainer.spec.taught import Supervised
from worker.estimates.probe import Measured, estimate_run, probe_spec
from worker.estimates.probes import ESTIMATES, announce_probes, claim, run_probe
from worker.lease import LeaseLost
from worker.shutdown import Shutdown


def add(spec: dict[str, Any], **columns: Any) -> str:
    estimate_id = new_estimate_id()
    values: dict[str, Any] = {
        "id": estimate_id,
        "project_id": DEFAULT_PROJECT,
        "created_at": time.time(),
        "status": "queued",
        "model": "tiny",
        "run_spec": spec,
        "attempt": 0,
    }
    with write_session() as session:
        session.add(Estimate(**values | columns))
    return estimate_id


def look(estimate_id: str) -> Estimate:
    with read_session() as session:
        return session.get_one(Estimate, estimate_id)


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path) -> RunSpec:
    """Ten steps with everything that a run does beside them."""
    run = RunSpec.model_validate(run_spec(tmp_path, tiny_model, steps=10))
    return run.model_copy(
        update={
            "evaluation": EvaluationSpec(interval=4),
            "checkpoint": CheckpointSpec(interval=5),
            "diagnostics": DiagnosticsSpec(interval=3),
            "preflight": PreflightSpec(),
        }
    )


def lessons(spec: RunSpec, folder: Path) -> RunSpec:
    """The same run with rows that it learns from."""
    turns = [{"role": "user", "content": "Say a"}, {"role": "assistant", "content": "a"}]
    (folder / "lessons.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    data = JsonlData(path=str(folder / "lessons.jsonl"))
    fields = {"model", "evaluation", "checkpoint", "optimizer", "total_steps", "run_id"}
    return RunSpec(
        **{name: getattr(spec, name) for name in fields},
        training_data=data,
        validation_data=data,
        grader=None,
        algorithm=Supervised(batch_size=1),
        diagnostics=DiagnosticsSpec(interval=0),
    )


def step(number: int, **seconds: float) -> StepMetrics:
    times = {f"time/{name}": value for name, value in seconds.items() if name != "step"}
    values = {"train/step_seconds": seconds["step"], **times}
    return StepMetrics(step=number, total_steps=2, values=values)


def test_the_total_counts_all_that_a_run_does(spec: RunSpec, tmp_path: Path):
    measured = Measured(began=100.0)
    measured.read(
        [
            Started(time=107.0, step=0, total_steps=2, parameters=1, device="cpu"),
            StepMetrics(step=0, total_steps=2, values={"eval/N/reward": 0.0}),
            step(1, step=5.0, generate=3.0, score=0.2, diagnostics=1.0),
            step(2, step=9.0, generate=2.0, score=0.2, evaluate=3.0, checkpoint=0.5),
            Finished(step=2, trained_tokens=1, peak_memory_bytes=1000),
        ]
    )
    result: Any = estimate_run(spec, measured, Path(spec.model.path))
    # Steps of 5 - 1 and 9 - 3 s.
    assert result["seconds_per_step"] == {"value": 5.0, "low": 3.0, "high": 7.5}
    # A step samples 8 responses, the preflight 16: 6.4 s. Evaluations: before, after 4, 8 and 10.
    # Checkpoints: after 5 and 10. Diagnostics: before steps 1, 4, 7 and 10.
    expected = 7 + 6.4 + 10 * 5 + 4 * 3 + 2 * 0.5 + 4 * 1
    assert result["total_seconds"]["value"] == pytest.approx(expected)
    assert result["total_seconds"]["low"] == pytest.approx((expected - 10) * 0.75)
    assert result["total_seconds"]["high"] == pytest.approx((expected + 10) * 1.25)
    assert result["peak_memory_bytes"] == {"device": "cpu", "value": 1000, "low": 900, "high": 1350}
    plan = result["memory_plan"]
    assert plan["certain_bytes"] < plan["peak_bytes"]
    assert {"weights", "moments", "activations"} <= {line["what"] for line in plan["lines"]}
    assert estimate_run(spec, measured, tmp_path / "nowhere")["memory_plan"] is None


def test_a_probe_is_the_run_cut_short(spec: RunSpec):
    cut = probe_spec(spec)
    assert (cut.total_steps, cut.preflight) == (2, None)
    assert (cut.evaluation.interval, cut.checkpoint.interval) == (0, 1)
    changed = ("total_steps", "preflight", "evaluation", "checkpoint")
    assert cut.model_copy(update={name: getattr(spec, name) for name in changed}) == spec


def test_a_worker_estimates_a_job_with_the_real_trainer(
    real_service: Service, start_worker: Callable[[], WorkerProcess], spec: RunSpec, tmp_path: Path
):
    estimate_id = add(spec.model_dump(mode="json"))
    unusable = spec.model_copy(update={"model": spec.model.model_copy(update={"path": "/nowhere"})})
    refused = add(unusable.model_dump(mode="json"))
    taught = add(lessons(spec, tmp_path).model_dump(mode="json"))
    for one in (estimate_id, refused, taught):
        announce(one)
    start_worker()
    ids = (estimate_id, refused, taught)
    eventually(lambda: {look(one).status for one in ids} <= {"succeeded", "failed"}, 180)
    row = look(estimate_id)
    assert row.error is None
    assert row.result is not None
    probe = row.result["probe"]
    assert probe["steps"] == 2
    assert all(probe[name] > 0 for name in ("start", "preflight", "evaluate", "checkpoint", "diagnostics"))
    assert 0 < row.result["seconds_per_step"]["low"] < row.result["seconds_per_step"]["high"]
    assert row.result["total_seconds"]["value"] > 10 * row.result["seconds_per_step"]["value"]
    assert row.result["peak_memory_bytes"]["value"] > 100 << 20, "a process with torch in it"
    error = look(refused).error
    assert error is not None
    assert error["code"] == "invalid_spec"
    row = look(taught)
    assert row.error is None and row.result is not None
    assert row.result["total_steps"] == 10 and row.result["probe"]["steps"] == 2
    assert all(row.result["probe"][name] > 0 for name in ("start", "evaluate", "checkpoint"))
    assert row.result["total_seconds"]["value"] > 10 * row.result["seconds_per_step"]["value"] > 0
    assert not list((real_service.settings.runs_dir / "estimates").iterdir()), "nothing is left behind"


def test_only_who_holds_an_estimate_writes_it(
    local_service: Service, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
):
    estimate_id = add(spec.model_dump(mode="json"))
    monkeypatch.setattr(local_service.settings, "lease_seconds", -1.0)
    first = claim(estimate_id, "first")
    assert first is not None and (first[0].attempt, first[1]) == (1, spec)
    monkeypatch.setattr(local_service.settings, "lease_seconds", 60.0)
    second = claim(estimate_id, "second")
    assert second is not None and second[0].attempt == 2, "the first worker was lost"
    assert claim(estimate_id, "third") is None
    for write in (partial(ESTIMATES.finish, status="succeeded"), ESTIMATES.renew):
        with pytest.raises(LeaseLost), write_session() as session:
            write(session, first[0])
    monkeypatch.setattr(local_service.settings, "lease_seconds", -1.0)
    with write_session() as session:
        ESTIMATES.renew(session, second[0])
    with read_session() as session:
        assert repository.waiting(session, 30.0, 10) == [estimate_id]
    assert claim(estimate_id, "third") is None, "lost too often"
    row = look(estimate_id)
    assert (row.status, row.error and row.error["code"]) == ("failed", "worker_lost")


def test_a_probe_that_hangs_is_stopped_and_one_of_a_worker_that_stops_is_given_back(
    local_service: Service, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
):
    local_service.script(default={"hang_after": 1, "ignore_sigterm": True})
    monkeypatch.setattr(local_service.settings, "estimate_seconds", 1.0)
    estimate_id = add(spec.model_dump(mode="json"))
    run_probe(estimate_id, "worker", Shutdown())
    row = look(estimate_id)
    assert (row.status, row.error and row.error["code"]) == ("failed", "probe_timeout")

    monkeypatch.setattr(local_service.settings, "estimate_seconds", 60.0)
    shutdown, other = Shutdown(), add(spec.model_dump(mode="json"))
    runner = threading.Thread(target=run_probe, args=(other, "worker", shutdown))
    runner.start()
    eventually(lambda: look(other).status == "running")
    shutdown.request()
    runner.join(20)
    assert not runner.is_alive()
    row = look(other)
    assert (row.status, row.attempt) == ("queued", 0)


def test_old_estimates_are_forgotten(local_service: Service):
    old = add({}, status="succeeded", finished_at=time.time() - 8 * 24 * 3600)
    new = add({}, status="succeeded", finished_at=time.time())
    announce_probes()
    with read_session() as session:
        assert session.get(Estimate, old) is None
        assert session.get(Estimate, new) is not None
