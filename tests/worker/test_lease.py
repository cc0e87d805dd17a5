"""Who may run a job, and who may write about it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import write_session
from tests.fixtures.workers import Service
from worker import lease
from worker.lease import Claim, Flags, LeaseLost


def test_one_of_eight_threads_claims(service: Service) -> None:
    job_id = service.add_job()
    start = threading.Barrier(8)

    def claim(number: int) -> Claim | None:
        start.wait()
        return lease.claim(job_id, f"worker-{number}")

    with ThreadPoolExecutor(8) as pool:
        claims = [found for found in pool.map(claim, range(8)) if found is not None]

    assert len(claims) == 1
    job = service.job(job_id)
    assert (job.status, job.attempt, job.lease_owner) == ("running", 1, claims[0].owner)
    assert [attempt.worker for attempt in service.attempts(job_id)] == [claims[0].owner]
    assert [event.message for event in service.events(job_id)] == ["The job has started."]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "running", "attempt": 1},
        {"status": "paused"},
        {"status": "succeeded"},
        {"not_before": 1e11},
        {"cancel_requested": True},
    ],
    ids=str,
)
def test_a_job_that_does_not_wait_is_not_claimed(service: Service, columns: dict) -> None:
    job_id = service.add_job(**columns)
    before = service.job(job_id)
    assert lease.claim(job_id, "worker") is None
    after = service.job(job_id)
    assert (after.status, after.attempt) == (before.status, before.attempt)
    assert service.events(job_id) == []
    assert lease.claim("ftjob-unknown", "worker") is None


def test_renewal_extends_the_lease_and_reads_the_flags(service: Service) -> None:
    job_id = service.add_job()
    claim = lease.claim(job_id, "worker")
    assert claim is not None
    service.change(job_id, pause_requested=True, lease_expires_at=0.0)

    assert lease.renew(claim) == Flags(cancel_requested=False, pause_requested=True)
    expires = service.job(job_id).lease_expires_at
    assert expires is not None and expires > time.time() + service.settings.lease_seconds / 2
    service.change(job_id, cancel_requested=True)
    assert lease.read_flags(claim) == Flags(cancel_requested=True, pause_requested=True)


def test_a_stale_token_writes_nothing(service: Service) -> None:
    job_id = service.add_job()
    old = lease.claim(job_id, "old")
    assert old is not None
    service.change(job_id, status="queued")
    _refuses_everything(old)
    new = lease.claim(job_id, "new")
    assert new is not None and new.attempt == 2
    _refuses_everything(old)

    lease.renew(new)
    assert service.job(job_id).step == 0


def _refuses_everything(claim: Claim) -> None:
    with pytest.raises(LeaseLost):
        lease.renew(claim)
    with pytest.raises(LeaseLost):
        lease.read_flags(claim)
    with pytest.raises(LeaseLost), write_session() as session:
        lease.hold(session, claim)
    with pytest.raises(LeaseLost), write_session() as session:
        lease.write_progress(session, claim, step=99)
