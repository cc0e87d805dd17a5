"""Whose turn it is: fair between projects, by priority within each."""

import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from app.db import read_session
from app.jobs.order import next_jobs, queue_places
from app.keys.service import create_project
from app.tables import DEFAULT_PROJECT
from tests.fixtures.workers import Service
from worker.ending import Outcome
from worker.shutdown import Shutdown
from worker.supervisor import run_next


def order() -> list[str]:
    with read_session() as session:
        return list(session.scalars(next_jobs(time.time(), 100)))


def places() -> dict[str, int]:
    found = queue_places(time.time())
    with read_session() as session:
        return dict(session.execute(select(found.c.id, found.c.place)).all())


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
