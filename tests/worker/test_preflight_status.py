"""A job is in ``validating_files`` while its trainer tries the grader, and running only after that."""

import time
from typing import Any

import pytest

from app.core.tables import DEFAULT_PROJECT
from app.jobs import service as jobs
from tests.fixtures.workers import Service, relay_of
from tests.worker.test_relay import drain, metrics, write
from trainer.spec.events import Event, Failed, Finished, MessageEvent, Phase, Started
from trainer.spec.run import PreflightSpec
from worker.jobs import holding
from worker.jobs.ending import Ending, Outcome, apply_ending
from worker.lease import Claim
from worker.reconciler import reconcile

STARTED = Started(step=0, total_steps=100, parameters=1, device="cpu")
#: What the trainer tells until the check is over.
CHECKED = [STARTED, Phase(step=1, phase="preflight"), MessageEvent(message="tried", data={"preflight": {}})]


def add_job(service: Service, **check: Any) -> str:
    spec = {"training_data": {"type": "jsonl"}, "preflight": PreflightSpec(**check).model_dump(mode="json")}
    hyperparameters = {"batch_size": 1, "learning_rate_multiplier": 1.0, "n_epochs": 1}
    method = {"type": "reinforcement", "reinforcement": {"hyperparameters": hyperparameters}}
    return service.add_job(steps=100, run_spec=spec, method=method)


def claimed(service: Service, job_id: str) -> Claim:
    claim = service.claim(job_id)
    service.run_dir(job_id).mkdir(parents=True, exist_ok=True)
    return claim


def relay(service: Service, claim: Claim, *events: Event) -> None:
    run_dir = service.run_dir(claim.id)
    write(run_dir, claim.attempt, *events)
    drain(relay_of(claim, run_dir))


def history(service: Service, job_id: str) -> list[str]:
    """The statuses that a job has had since it was queued."""
    told = [event.data for event in service.events(job_id) if event.data]
    return [data["status"] for data in told if "status" in data]


@pytest.mark.parametrize(
    "after",
    [Phase(step=1, phase="evaluate"), metrics(1), Finished(step=100, trained_tokens=1)],
    ids=["phase", "metrics", "finished"],
)
def test_it_runs_once_the_trainer_goes_on(service: Service, after: Event) -> None:
    job_id = add_job(service)
    claim = claimed(service, job_id)
    relay(service, claim, *CHECKED)
    job = service.job(job_id)
    assert (job.status, job.started_at, job.lease_owner) == ("validating_files", None, "worker")

    relay(service, claim, after)
    job = service.job(job_id)
    assert (job.status, job.started_at, job.lease_owner) == ("running", after.time, "worker")
    assert history(service, job_id) == ["validating_files", "running"]
    relay(service, claim, metrics(2))
    assert history(service, job_id) == ["validating_files", "running"], "it began once"


def test_what_the_look_finds_wrong_fails_the_job_before_it_ran(service: Service) -> None:
    job_id = add_job(service)
    claim = claimed(service, job_id)
    failed = Failed(code="zero_variance", message="reward 0 for 64", param="grader")
    relay(service, claim, *CHECKED, failed)
    apply_ending(claim, Ending(Outcome.FAILED, failed.message, code=failed.code, param=failed.param))
    job = service.job(job_id)
    assert (job.status, job.started_at, job.lease_owner) == ("failed", None, None)
    assert history(service, job_id) == ["validating_files", "failed"]


def test_a_job_that_has_run_is_not_looked_at_again(service: Service) -> None:
    job_id = add_job(service)
    relay(service, claimed(service, job_id), *CHECKED, metrics(1))
    service.change(job_id, status="queued")
    claimed(service, job_id)
    assert service.job(job_id).status == "running"


def test_without_a_look_it_runs_at_once(service: Service) -> None:
    job_id = add_job(service, samples=0)
    claimed(service, job_id)
    assert service.job(job_id).status == "running"


def test_a_worker_that_is_lost_during_the_look(service: Service) -> None:
    job_id = add_job(service)
    relay(service, claimed(service, job_id), *CHECKED)
    service.change(job_id, lease_expires_at=time.time() - 1)
    reconcile()
    assert service.job(job_id).status == "queued"
    service.change(job_id, not_before=0.0)
    claimed(service, job_id)
    assert service.job(job_id).status == "validating_files"


def test_a_pause_during_the_look(service: Service) -> None:
    job_id = add_job(service)
    claim = claimed(service, job_id)
    relay(service, claim, *CHECKED)
    assert jobs.pause(DEFAULT_PROJECT, job_id)["status"] == "pausing"
    relay(service, claim, Phase(step=1, phase="evaluate"))
    assert service.job(job_id).status == "pausing", "going on does not undo the wish to pause"
    apply_ending(claim, Ending(Outcome.PAUSED, "paused"))
    assert jobs.resume(DEFAULT_PROJECT, job_id)["status"] == "queued"
    claimed(service, job_id)
    assert service.job(job_id).status == "validating_files", "the check was not over"


def test_a_cancellation_during_the_look_is_the_workers_to_obey(service: Service) -> None:
    job_id = add_job(service)
    claim = claimed(service, job_id)
    assert jobs.cancel(DEFAULT_PROJECT, job_id)["status"] == "validating_files"
    assert holding.read_flags(claim).cancel_requested
    apply_ending(claim, Ending(Outcome.CANCELLED))
    assert service.job(job_id).status == "cancelled"


def test_a_full_disk_during_the_look(service: Service) -> None:
    job_id = add_job(service)
    apply_ending(claimed(service, job_id), Ending(Outcome.PAUSED, "The disk is full"))
    assert history(service, job_id) == ["validating_files", "pausing", "paused"]
