"""The order in which waiting jobs get their turn: fair between projects, by priority within each.

A job's turn is its place among its own project's waiting jobs, counted from the number of jobs that the
project has running already. The lowest turn is next, so that a project with a thousand waiting jobs delays
another's first job by no more than one. Workers take whatever job is next, whichever message woke them up.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, case, func, literal_column, or_, select

from app.jobs.status import HELD, JobStatus
from app.tables import Job


def queue_places(now: ColumnElement[float] | float) -> Subquery:
    """``id``, ``place`` (1 is next) and ``due`` of every queued job; what has to wait comes last."""
    running = (
        select(Job.project_id, func.count().label("jobs"))
        .where(or_(*(Job.status == status.value for status in HELD)))
        .group_by(Job.project_id)
        .subquery()
    )
    waits = case((Job.not_before > now, Job.not_before), else_=literal_column("0"))
    own_order = (waits, Job.priority.desc(), Job.created_at, Job.id)
    number = func.row_number().over(partition_by=Job.project_id, order_by=own_order)
    turns = (
        select(
            Job.id,
            Job.priority,
            Job.created_at,
            waits.label("waits"),
            (number + func.coalesce(running.c.jobs, 0)).label("turn"),
        )
        .outerjoin(running, running.c.project_id == Job.project_id)
        .where(Job.status == JobStatus.QUEUED.value, Job.cancel_requested.is_(False))
        .subquery()
    )
    order = (turns.c.waits, turns.c.turn, turns.c.priority.desc(), turns.c.created_at, turns.c.id)
    place = func.row_number().over(order_by=order).label("place")
    return select(turns.c.id, place, (turns.c.waits == 0).label("due")).subquery()


def next_jobs(now: float, limit: int) -> Select[Any]:
    """Ids of the jobs that are due and next, in order."""
    places = queue_places(now)
    return select(places.c.id).where(places.c.due).order_by(places.c.place).limit(limit)
