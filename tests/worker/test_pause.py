"""Pause and resume from the API's service to the trainer and back, with a real worker process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.core.db import read_session
from app.core.tables import DEFAULT_PROJECT
from app.jobs import service as jobs
from app.models.service import find_model
from tests.fixtures.workers import Service, WorkerProcess, eventually

METHOD: dict[str, Any] = {
    "type": "reinforcement",
    "reinforcement": {
        "hyperparameters": {"batch_size": 1, "learning_rate_multiplier": 1.0, "n_epochs": 1},
        "budget": {},
    },
}
STEPS = 40


def test_a_paused_job_leaves_a_model_and_goes_on(
    queued_service: Service, start_worker: Callable[[], WorkerProcess]
) -> None:
    service = queued_service
    service.script(default={"step_seconds": 0.05})
    spec = {"total_steps": STEPS, "run_id": "r", "training_data": {"type": "jsonl", "path": "/x"}}
    job_id = service.add_job(STEPS, run_spec=spec, method=METHOD)
    start_worker()
    eventually(lambda: service.job(job_id).step >= 3)
    assert jobs.pause(DEFAULT_PROJECT, job_id)["status"] == "pausing"
    paused = service.wait_for_status(job_id, "paused")
    assert 3 <= paused.step < STEPS
    with read_session() as session:
        name = f"ft:tiny:policysplit::{job_id.removeprefix('ftjob-')[:10]}:ckpt-step-{paused.step}"
        assert Path(find_model(session, DEFAULT_PROJECT, name).place).is_dir(), (
            "pausing leaves a usable model"
        )

    assert jobs.resume(DEFAULT_PROJECT, job_id)["status"] == "queued"
    done = service.wait_for_status(job_id, "succeeded")
    assert (done.attempt, done.step) == (2, STEPS)
    assert sorted(service.points(job_id)) == list(range(1, STEPS + 1)), "no step is missing"
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["paused", "succeeded"]
