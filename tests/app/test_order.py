"""Whose turn it is: fair between projects, by priority within each."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from app.core.db import read_session
from app.core.tables import DEFAULT_PROJECT, Job
from app.jobs.order import HEADS, first_due
from app.jobs.repository import queue_positions
from app.keys.service import create_project
from tests.fixtures.workers import Service
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.shutdown import Shutdown


def order() -> list[str]:
    with read_session() as session:
        postgresql = session.get_bind().dialect.name == "postgresql"
        return list(session.scalars(first_due(time.time(), heads=HEADS[0], postgresql=postgresql)))


def places() -> dict[str, int]:
    with read_session() as session:
        return queue_positions(session, session.scalars(select(Job)).all())


def test_projects_take_turns_and_a_crowd_delays_nobody(service: Service) -> None:
    other = create_project("other").id
    third = create_project("third").id
    crowd = [service.add_job(created_at=float(n)) for n in range(4)]
    mine = [service.add_job(created_at=10.0 + n, project_id=other) for n in range(2)]
    assert order() == [crowd[0], mine[0], crowd[1], mine[1], crowd[2], crowd[3]]
    # What runs counts: the crowd has two running jobs already.
    for job_id in crowd[:2]:
        service.change(job_id, status="running", lease_expires_at=time.time() + 60)
    late = service.add_job(created_at=20.0, project_id=third)
    assert order() == [mine[0], late, mine[1], crowd[2], crowd[3]]
    assert places() == {job_id: place for place, job_id in enumerate(order(), 1)}


def test_priority_orders_a_project_and_pushes_no_other_aside(service: Service) -> None:
    other = create_project("other").id
    first, second = (service.add_job(created_at=float(n)) for n in range(2))
    urgent = service.add_job(created_at=5.0, priority=10)
    elsewhere = service.add_job(created_at=6.0, project_id=other)
    waiting = service.add_job(created_at=0.0, priority=100, not_before=time.time() + 3600)
    service.add_job(created_at=0.0, cancel_requested=True)
    assert order() == [urgent, elsewhere, first, second]
    assert places()[waiting] == 5
    with read_session() as session:
        alone = queue_positions(session, [session.get_one(Job, waiting)])
    assert alone == {waiting: 5}, "the page of a job asks for no other's place"


def test_places_are_those_of_the_order(service: Service) -> None:
    """Of many jobs asked for at once as of each alone, whatever else waits and runs."""
    chance = random.Random(5)
    projects = [DEFAULT_PROJECT, *(create_project(f"p{n}").id for n in range(3))]
    for _ in range(40):
        columns = {"project_id": chance.choice(projects), "created_at": float(chance.randrange(12))}
        if chance.random() < 0.2:
            columns |= {"status": "running", "lease_expires_at": time.time() + 60}
        service.add_job(priority=chance.choice([0, 0, 3, -2, 100]), **columns)
    expected = {job_id: place for place, job_id in enumerate(order(), 1)}
    assert places() == expected
    with read_session() as session:
        jobs = session.scalars(select(Job)).all()
        alone = {job.id: queue_positions(session, [job]).get(job.id) for job in jobs}
        some = queue_positions(session, jobs[::3])
    assert {job_id: place for job_id, place in alone.items() if place is not None} == expected
    assert some == {job.id: expected[job.id] for job in jobs[::3] if job.id in expected}


def test_eight_workers_take_each_job_once_in_order(service: Service) -> None:
    service.script(default={})
    jobs = {service.add_job(steps=1, project_id=DEFAULT_PROJECT) for _ in range(8)}
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: run_next(f"worker-{n}", Shutdown()), range(9)))
    assert outcomes.count(Outcome.SUCCEEDED) == 8
    assert {job_id for job_id in jobs if service.job(job_id).attempt == 1} == jobs


def test_a_message_for_one_job_may_run_another(service: Service) -> None:
    later = service.add_job(steps=1, created_at=2.0)
    sooner = service.add_job(steps=1, created_at=1.0)
    assert run_next("worker", Shutdown()) is Outcome.SUCCEEDED
    assert (service.job(sooner).status, service.job(later).status) == ("succeeded", "queued")
