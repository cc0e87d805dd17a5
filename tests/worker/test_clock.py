"""A job's clock: the pace of its attempt and the seconds of its budget, from its trainer's events."""

import time
from collections.abc import Callable

import pytest

from app.jobs.views import estimated_finish
from tests.fixtures.workers import Service, WorkerProcess, eventually
from trainer.spec.events import Started, StepMetrics
from worker.jobs.clock import Clock


def started(at: float, device: str = "cpu") -> Started:
    return Started(time=at, step=0, total_steps=10, parameters=1, device=device)


def stepped(at: float, step: int) -> StepMetrics:
    return StepMetrics(time=at, step=step, total_steps=10, values={})


def test_a_clock_follows_attempts():
    clock = Clock(None, None, None, 0.0, 0)
    # Start-up and the first evaluation take 30 s: the pace does not count them, a budget does.
    for event in (started(100.0, "cuda:0"), stepped(130.0, 0), stepped(140.0, 1), stepped(150.0, 2)):
        clock.see(event)
    assert (clock.clock_step, clock.clock_at, clock.stepped_at) == (0, 130.0, 150.0)
    assert (clock.budget_seconds, clock.gpus) == (50.0, 1)
    # Another attempt, an hour later, from step 1 on.
    for event in (started(3800.0), stepped(3805.0, 2), stepped(3815.0, 3)):
        clock.see(event)
    assert (clock.clock_step, clock.clock_at, clock.stepped_at) == (2, 3805.0, 3815.0)
    assert (clock.budget_seconds, clock.gpus) == (65.0, 0), "the hour between is not training"
    clock.see(stepped(3810.0, 4))
    assert clock.budget_seconds == pytest.approx(65.0), "a clock that was set back takes nothing away"


def test_a_running_job_knows_when_it_will_be_done(
    queued_service: Service, start_worker: Callable[[], WorkerProcess]
) -> None:
    service = queued_service
    service.script(default={"step_seconds": 0.1})
    job_id = service.add_job(80)
    start_worker()
    eventually(lambda: service.job(job_id).step >= 30)
    estimate = estimated_finish(service.job(job_id), time.time())
    assert estimate is not None
    done = service.wait_for_status(job_id, "succeeded")
    assert done.finished_at == pytest.approx(estimate, abs=3.0)
