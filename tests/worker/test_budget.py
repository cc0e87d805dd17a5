"""A budget that is used up pauses a job, with a real worker and a scripted trainer."""

from collections.abc import Callable

from app.jobs import service as jobs
from app.tables import DEFAULT_PROJECT
from tests.fixtures.workers import Service, WorkerProcess
from tests.worker.test_pause import METHOD

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
