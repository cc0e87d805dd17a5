"""Who may run a job, and who may write about it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import and_, or_, select, text
from sqlalchemy.event import listen, remove

from app.core.db import get_engine, read_session, write_session
from app.core.tables import DEFAULT_PROJECT, Job, JobReplay
from app.jobs.order import HEADS
from tests.fixtures.workers import Service
from worker.estimates.probes import ESTIMATES
from worker.jobs import holding
from worker.jobs.holding import Flags
from worker.lease import Claim, Lease, LeaseLost
from worker.replays.replaying import REPLAYS


def test_one_of_eight_threads_claims(service: Service) -> None:
    job_id = service.add_job()
    start = threading.Barrier(8)

    def claim(number: int) -> Claim | None:
        start.wait()
        return holding.claim_next(f"worker-{number}")

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
    assert holding.claim_next("worker") is None
    after = service.job(job_id)
    assert (after.status, after.attempt) == (before.status, before.attempt)
    assert service.events(job_id) == []


def test_renewal_extends_the_lease_and_reads_the_flags(service: Service) -> None:
    job_id = service.add_job()
    claim = service.claim(job_id)
    service.change(job_id, pause_requested=True, lease_expires_at=0.0)

    assert holding.renew(claim) == Flags(cancel_requested=False, pause_requested=True)
    expires = service.job(job_id).lease_expires_at
    assert expires is not None and expires > time.time() + service.settings.lease_seconds / 2
    service.change(job_id, cancel_requested=True)
    assert holding.read_flags(claim) == Flags(cancel_requested=True, pause_requested=True)


def test_a_heartbeat_writes_no_index(service: Service) -> None:
    if get_engine().dialect.name == "sqlite":
        pytest.skip("SQLite counts no updates that leave indexes alone")
    claim = service.claim(service.add_job())
    # HOT: no index has a column that has changed. Of this transaction, and what the server has yet to add up.
    written = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
    with write_session() as session:
        before = session.execute(written).one()
        holding.JOBS.renew(session, claim)
        holding.write_progress(session, claim, step=1, stepped_at=time.time())
        after = session.execute(written).one()
    assert [new - old for old, new in zip(before, after, strict=True)] == [2, 2]


def test_a_stale_token_writes_nothing(service: Service) -> None:
    job_id = service.add_job()
    old = service.claim(job_id, "old")
    service.change(job_id, status="queued")
    _refuses_everything(old)
    new = service.claim(job_id, "new")
    assert new.attempt == 2
    _refuses_everything(old)

    holding.renew(new)
    assert service.job(job_id).step == 0


def test_a_locked_head_of_the_queue_delays_nobody(service: Service) -> None:
    head, second = (service.add_job(created_at=float(n)) for n in range(2))
    if get_engine().dialect.name == "sqlite":
        pytest.skip("one writer at a time: a lock is of the whole database")
    with write_session() as session:
        session.execute(select(Job.id).where(Job.id == head).with_for_update())
        claim = holding.claim_next("worker")
        assert claim is not None and claim.id == second
        assert holding.claim_next("worker") is None, "nothing is free"
        assert holding.any_due(), "but something waits"
    claim = holding.claim_next("worker")
    assert claim is not None and claim.id == head


def test_more_locked_heads_than_a_claim_looks_at_hide_no_job(service: Service) -> None:
    """As where others have taken these between a claim's look and its turn to lock one."""
    ids = [service.add_job(created_at=float(n)) for n in range(HEADS[0] + 1)]
    if get_engine().dialect.name == "sqlite":
        pytest.skip("one writer at a time: a lock is of the whole database")
    with write_session() as session:
        session.execute(select(Job.id).where(Job.id != ids[-1]).with_for_update())
        claim = holding.claim_next("worker")
        assert claim is not None and claim.id == ids[-1]


def test_sixteen_workers_claim_a_full_queue_at_the_first_try(service: Service) -> None:
    jobs = {service.add_job() for _ in range(48)}
    start = threading.Barrier(16)

    def claim_three(number: int) -> list[Claim | None]:
        start.wait()
        return [holding.claim_next(f"worker-{number}") for _ in range(3)]

    with ThreadPoolExecutor(16) as pool:
        found = [claim for some in pool.map(claim_three, range(16)) for claim in some]
    assert {claim.id for claim in found if claim is not None} == jobs
    assert None not in found


def test_a_claim_is_one_statement(service: Service) -> None:
    """The job's row, the attempt's and the event's, so that hundreds of workers can claim in a second."""
    first, second = (service.add_job(created_at=float(n)) for n in range(2))
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, _many: bool) -> None:
        statements.append(statement)

    listen(get_engine(), "after_cursor_execute", note)
    try:
        claims = [holding.claim_next("worker"), holding.claim_next("worker")]
    finally:
        remove(get_engine(), "after_cursor_execute", note)
    assert [claim and claim.id for claim in claims] == [first, second]
    words = [statement.split()[0] for statement in statements]
    # SQLite has no INSERT within another statement.
    one = ["UPDATE", "INSERT", "INSERT"] if get_engine().dialect.name == "sqlite" else ["WITH"]
    assert [word for word in words if word != "BEGIN"] == one * 2
    for found in claims:
        assert found and [attempt.worker for attempt in service.attempts(found.id)] == ["worker"]
        assert [event.data for event in service.events(found.id)] == [{"attempt": 1, "status": "running"}]


@pytest.mark.parametrize(
    ("lease", "row"),
    [
        (ESTIMATES, {"project_id": DEFAULT_PROJECT, "model": "tiny", "run_spec": {}}),
        (REPLAYS, {"step": 1}),
    ],
    ids=["estimates", "replays"],
)
def test_estimates_and_replays_are_fenced_as_jobs_are(
    service: Service, monkeypatch: pytest.MonkeyPatch, lease: Lease, row: dict
) -> None:
    table = lease.table
    if table is JobReplay:
        row = row | {"job_id": service.add_job()}
    with write_session() as session:
        session.add(table(id="one", status="queued", created_at=1.0, attempt=0, **row))
    waiting = select(table.id).where(or_(table.status == "queued", and_(*lease.lost())))
    free = lease.claiming(waiting, status="running")
    monkeypatch.setattr(service.settings, "lease_seconds", -1.0)
    with write_session() as session:
        old = _claimed(lease.claim(session.connection(), free, "old"))
    monkeypatch.setattr(service.settings, "lease_seconds", 60.0)
    with write_session() as session:
        new = _claimed(lease.claim(session.connection(), free, "new"))
        assert lease.claim(session.connection(), free, "third") is None
    assert new.attempt == old.attempt + 1
    impostor = replace(new, owner="old")
    for write in (lease.renew, lease.lock, lease.hold, partial(lease.finish, status="succeeded")):
        for claim in (old, impostor):
            with pytest.raises(LeaseLost), write_session() as session:
                write(session, claim)
    with write_session() as session:
        lease.renew(session, new)
        lease.finish(session, new, "succeeded")
    with read_session() as session:
        ended = session.get_one(table, "one")
        assert (ended.status, ended.attempt, ended.lease_owner) == ("succeeded", 2, None)


def _claimed(found: tuple[Claim, Any] | None) -> Claim:
    assert found is not None
    return found[0]


def _refuses_everything(claim: Claim) -> None:
    with pytest.raises(LeaseLost):
        holding.renew(claim)
    with pytest.raises(LeaseLost):
        holding.read_flags(claim)
    with pytest.raises(LeaseLost), write_session() as session:
        holding.hold(session, claim)
    with pytest.raises(LeaseLost), write_session() as session:
        holding.write_progress(session, claim, step=99)
