"""A trainer that tells of nothing, and a disk without room."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.workers import Service, eventually
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.shutdown import Shutdown


def run() -> Outcome | None:
    return run_next("test", Shutdown())


def test_a_silent_trainer_shows_its_stack_before_it_is_ended(
    service: Service, thread_pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.settings, "stall_dump_seconds", 1.0)
    monkeypatch.setattr(service.settings, "stall_seconds", 0.0)
    service.script(default={"hang_after": 1, "ignore_sigterm": True})
    job_id = service.add_job(steps=3)
    running = thread_pool.submit(run)

    def told() -> list:
        return [event for event in service.events(job_id) if event.data and "stack" in event.data]

    (event,) = eventually(told)
    assert event.data is not None and event.level == "warn"
    assert "in run" in event.data["stack"] and "scripted_trainer.py" in event.data["stack"]
    assert "has reported nothing for" in event.message
    assert service.job(job_id).status == "running", "nothing is done to it yet"

    monkeypatch.setattr(service.settings, "stall_seconds", 1.5)
    assert running.result(20) is Outcome.CRASHED
    (attempt,) = service.attempts(job_id)
    assert (attempt.outcome, attempt.cause) == ("crashed", "stalled")
    assert len(told()) == 1, "one stall is told of once"
    assert service.job(job_id).status == "queued"


def test_a_slow_step_that_tells_of_its_phases_is_no_stall(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service.settings, "stall_dump_seconds", 1.0)
    monkeypatch.setattr(local_service.settings, "stall_seconds", 1.2)
    local_service.script(default={"step_seconds": 2.5, "beats": 10})
    job_id = local_service.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED
    assert not [event for event in local_service.events(job_id) if event.level == "warn"]


def test_a_job_waits_for_room_on_the_disk(local_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_service.settings, "disk_reserve_bytes", 1 << 62)
    local_service.script(default={"hang_after": 2})
    job_id = local_service.add_job(steps=3)
    assert run() is Outcome.PAUSED
    job = local_service.job(job_id)
    assert (job.status, job.error) == ("paused", None)
    (attempt,) = local_service.attempts(job_id)
    assert (attempt.outcome, attempt.cause) == ("paused", "disk_full")
    last = local_service.events(job_id)[-1]
    assert last.level == "error" and last.message.startswith("The disk is full: the job has been paused")

    monkeypatch.setattr(local_service.settings, "disk_reserve_bytes", 0)
    local_service.script(default={})
    local_service.change(job_id, status="queued")
    assert run() is Outcome.SUCCEEDED
    assert local_service.points(job_id) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert local_service.job(job_id).disk_bytes > 0


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        ({"crash_after": 1, "crash_with": 74}, "disk_full"),
        ({"crash_after": 1, "crash_with": -9}, "signal"),
        ({"fail": {"code": "grader_failed", "message": "no reward"}}, "grader"),
        ({"fail": {"code": "out_of_memory", "message": "CUDA out of memory"}}, "out_of_memory"),
        ({"fail": {"code": "engine_failed", "message": "vLLM died"}}, "engine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attempts_say_why_they_ended(local_service: Service, plan: dict, cause: str) -> None:
    local_service.script(default=plan)
    job_id = local_service.add_job()
    run()
    (attempt,) = local_service.attempts(job_id)
    assert attempt.cause == cause
    retried = cause in ("signal", "engine")
    paused = cause == "disk_full"
    assert local_service.job(job_id).status == ("queued" if retried else "paused" if paused else "failed")
