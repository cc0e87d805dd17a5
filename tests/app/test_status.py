"""The status function: what it allows, what it writes, and that two writers cannot both win."""

import itertools
import threading
import time

import pytest
from sqlalchemy import Engine, select

from app.core.db import read_session, write_session
from app.core.ids import new_job_id
from app.core.job_log import add_event
from app.core.job_status import HELD, TERMINAL, TRANSITIONS, JobStatus
from app.core.tables import DEFAULT_PROJECT, Job, JobEvent
from app.jobs.status import IllegalTransition, change_status


def add(engine: Engine, status: JobStatus, **columns: object) -> str:
    job = Job(
        id=new_job_id(),
        project_id=DEFAULT_PROJECT,
        request_sha256="",
        created_at=time.time(),
        status=status.value,
        model="tiny",
        seed=0,
        method={},
        run_spec={},
        total_steps=1,
        **columns,
    )
    with write_session(engine) as session:
        session.add(job)
    return job.id


def test_only_what_the_table_allows(engine: Engine):
    for old, new in itertools.product(JobStatus, JobStatus):
        job_id = add(engine, old, lease_owner="w", lease_expires_at=1.0, enqueued_at=1.0)
        if new not in TRANSITIONS[old]:
            with pytest.raises(IllegalTransition), write_session(engine) as session:
                change_status(session, session.get_one(Job, job_id), new, message="m")
        else:
            with write_session(engine) as session:
                change_status(session, session.get_one(Job, job_id), new, message="m", now=5.0)
        with read_session(engine) as session:
            job = session.get_one(Job, job_id)
            events = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id)).all()
        if new not in TRANSITIONS[old]:
            assert (job.status, len(events)) == (old, 0)
            continue
        assert (job.status, [event.message for event in events]) == (new, ["m"])
        assert job.finished_at == (5.0 if new in TERMINAL else None)
        assert job.lease_owner == ("w" if new in HELD else None)
        assert job.enqueued_at == (None if new is JobStatus.QUEUED else 1.0)


def test_status_and_event_are_one(engine: Engine):
    job_id = add(engine, JobStatus.QUEUED)
    with pytest.raises(ZeroDivisionError), write_session(engine) as session:
        change_status(session, session.get_one(Job, job_id), JobStatus.RUNNING, message="m")
        _ = 1 / 0
    with read_session(engine) as session:
        assert session.get_one(Job, job_id).status == "queued"
        assert session.scalars(select(JobEvent)).all() == []


def test_one_of_two_writers_wins(engine: Engine):
    """Both read "queued"; one claims the job, the other cancels it."""
    job_id = add(engine, JobStatus.QUEUED)
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def write(new: JobStatus) -> None:
        with read_session(engine) as session:
            job = session.get_one(Job, job_id)
        barrier.wait()
        try:
            with write_session(engine) as session:
                change_status(session, session.merge(job, load=False), new, message="m")
            outcomes.append(new)
        except IllegalTransition:
            outcomes.append("refused")

    threads = [
        threading.Thread(target=write, args=(one,)) for one in (JobStatus.RUNNING, JobStatus.CANCELLED)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 1
    with read_session(engine) as session:
        assert session.get_one(Job, job_id).status in outcomes
        assert len(session.scalars(select(JobEvent)).all()) == 1


def test_events_become_visible_in_the_order_of_their_numbers(engine: Engine):
    """A reader that asks for what follows the last number it saw misses nothing."""
    job_id = add(engine, JobStatus.RUNNING)
    done = threading.Event()

    def write(name: str) -> None:
        for number in range(25):
            with write_session(engine) as session:
                add_event(session, job_id, "info", "message", f"{name}{number}")

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    seen: list[str] = []

    def read() -> None:
        last = 0
        while True:
            finished = done.is_set()
            with read_session(engine) as session:
                query = select(JobEvent).where(JobEvent.sequence > last).order_by(JobEvent.sequence)
                events = session.scalars(query).all()
            seen.extend(event.message for event in events)
            last = events[-1].sequence if events else last
            if finished and not events:
                return

    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert sorted(seen) == sorted(f"{name}{number}" for name in "ab" for number in range(25))
