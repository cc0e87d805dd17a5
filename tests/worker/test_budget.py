"""A budget that is used up pauses a job, with a real worker and a scripted trainer."""

from collections.abc import Callable
from typing import Any

import pytest

from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT
from app.jobs import service as jobs
from tests.fixtures.workers import Service, WorkerProcess, relay_of
from tests.worker.test_pause import METHOD
from tests.worker.test_relay import begin, drain, write
from trainer.spec.events import Started, StepMetrics
from worker.jobs import heartbeat
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.shutdown import Shutdown

STEPS = 60


def test_a_budget_pauses_a_job_and_resuming_grants_it_again(
    queued_service: Service, start_worker: Callable[[], WorkerProcess]
) -> None:
    service = queued_service
    service.script(default={"step_seconds": 0.1})
    spec = {"total_steps": STEPS, "run_id": "r", "training_data": {"type": "jsonl", "path": "/x"}}
    method = METHOD | {"reinforcement": METHOD["reinforcement"] | {"budget": {"pause_after_steps": 5}}}
    job_id = service.add_job(STEPS, run_spec=spec, method=method)
    start_worker()
    first = service.wait_for_status(job_id, "paused")
    assert 5 <= first.step < STEPS
    assert first.budget_seconds > 0
    said = [event.message for event in service.events(job_id)]
    assert sum("The budget of 5 steps is used up" in text for text in said) == 1
    jobs.resume(DEFAULT_PROJECT, job_id)
    service.wait_for_status(job_id, "running")
    second = service.wait_for_status(job_id, "paused")
    assert second.step >= first.step + 5
    assert (second.budget_step, second.attempt) == (first.step, 2)


def test_the_entropy_floor_reads_past_steps_that_have_none(service: Service) -> None:
    """Every second step has no normal mode: the mean is that of the last five that have one."""
    method = {"type": "reinforcement", "reinforcement": {"budget": {"entropy_floor": 0.45}}}
    claim, run_dir = begin(service, service.add_job(steps=100, method=method))
    write(run_dir, 1, Started(time=0.0, step=0, total_steps=100, parameters=1, device="cpu"))
    relay = relay_of(claim, run_dir)
    for step in range(1, 10):
        values = {"train/N/entropy_nats": 0.4} if step % 2 else {"train/H/entropy_nats": 2.0}
        write(run_dir, 1, StepMetrics(time=float(step), step=step, total_steps=100, values=values))
        drain(relay)
        assert service.job(claim.id).pause_requested == (step == 9)


@pytest.mark.parametrize(
    ("budget", "device", "last", "says"),
    [
        ({"pause_after_steps": 7}, "cpu", 7, "The budget of 7 steps is used up."),
        # Each step takes ten minutes.
        ({"wall_clock_hours": 1.0}, "cpu", 6, "The budget of 1 hours is used up: 1.00 hours of training."),
        ({"gpu_hours": 1.5}, "cuda:0", 9, "The budget of 1.5 GPU-hours is used up: 1.50 on 1 GPU(s)."),
        ({"gpu_hours": 1.5}, "cpu", None, ""),
        # It falls from 1 nat by a tenth a step: 0.5 is the mean of steps 3 to 7, the next mean is below it.
        ({"entropy_floor": 0.45}, "cpu", 8, "The normal mode's entropy, 0.400 nats over the last 5 steps"),
    ],
    ids=["steps", "wall-clock", "gpu-hours", "no-gpu", "entropy-floor"],
)
def test_each_budget_pauses_at_its_step(
    service: Service, budget: dict[str, Any], device: str, last: int | None, says: str
) -> None:
    method = {"type": "reinforcement", "reinforcement": {"budget": budget}}
    claim, run_dir = begin(service, service.add_job(steps=100, method=method))
    write(run_dir, 1, Started(time=0.0, step=0, total_steps=100, parameters=1, device=device))
    relay = relay_of(claim, run_dir)
    for step in range(1, 11):
        values = {"train/N/entropy_nats": 1 - step / 10}
        write(run_dir, 1, StepMetrics(time=600.0 * step, step=step, total_steps=100, values=values))
        drain(relay)
        job = service.job(claim.id)
        expected = "pausing" if last is not None and step >= last else "running"
        assert (step, job.status) == (step, expected)
        assert job.pause_requested == (expected == "pausing")
    told = [event.message for event in service.events(claim.id) if "budget" in event.message]
    assert len(told) == (last is not None)
    assert says in "".join(told)


def test_a_pause_does_not_wait_for_the_heartbeat(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is many short steps: the relay has just written what the heartbeat would read."""
    monkeypatch.setattr(heartbeat, "FLAG_SECONDS", 60.0)
    for name in ("heartbeat_seconds", "lease_seconds"):
        monkeypatch.setattr(get_settings(), name, 60.0)
    service.script(default={"step_seconds": 0.1})
    method = {"type": "reinforcement", "reinforcement": {"budget": {"pause_after_steps": 2}}}
    job_id = service.add_job(STEPS, method=method)
    assert run_next("test", Shutdown()) is Outcome.PAUSED
    assert service.job(job_id).step < STEPS
