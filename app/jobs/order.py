"""The order in which waiting jobs run: fair between projects, by priority within each.

A job's turn is its place among its own project's waiting jobs, counted from the number of jobs that the
project has running already. The lowest turn is next, so that a project with a thousand waiting jobs delays
another's first job by no more than one. Workers take whatever job is next, whichever message woke them up.

The queries read an index in its order (``ix_jobs_turn``: project, priority, age), whose columns are all
that the order needs; jobs that wait for a given time (``not_before``) come last.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Select,
    String,
    Subquery,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session, aliased

from app.core.db import get_engine
from app.core.job_status import HELD
from app.core.strict_json import JsonObject
from app.core.tables import Double, Job, Project

#: Of each project, how many of the first waiting jobs a claim looks at; and at its second look, where others
#: have locked or taken all of these since.
HEADS = (32, 1024)
_OWN_ORDER = (Job.priority.desc(), Job.created_at, Job.id)


def is_due(now: ColumnElement[float] | float, job: type[Job] = Job) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a job waits for nothing but its turn."""
    return (*_is_waiting(job), job.not_before <= now)


def _is_waiting(job: type[Job] = Job) -> tuple[ColumnElement[bool], ...]:
    return job.status == literal_column("'queued'"), job.cancel_requested.is_(False)


class Places:
    """The places (1 is next) of some queued jobs, rows or what has their columns.

    ``query`` is to be asked with ``values``.

    No job's rank is counted by itself: these jobs cut the order into parts, and one pass over the waiting
    jobs' index says how many each project has in each of them. From that follow all turns.
    """

    def __init__(self, jobs: Iterable[Job | SimpleNamespace], now: float):
        due = [job for job in jobs if job.not_before <= now]
        self._due = sorted(due, key=lambda job: (-job.priority, job.created_at, job.id))
        alike = [len(list(group)) for _, group in groupby(self._due, key=lambda job: job.priority)]
        self.query = _standings(tuple(alike), get_engine().dialect.name == "postgresql")
        self.values: JsonObject = {"now": now}
        for number, job in enumerate(self._due):
            self.values |= {f"created_{number}": job.created_at, f"id_{number}": job.id}
        priorities = dict.fromkeys(job.priority for job in self._due)
        self.values |= {f"priority_{group}": priority for group, priority in enumerate(priorities)}

    def found(self, rows: Iterable[Sequence[Any]]) -> tuple[dict[str, int], int]:
        """The place of each that is due, by its id, and how many jobs are due, as the ``query`` says."""
        projects: dict[str, _Project] = defaultdict(lambda: _Project([0] * (len(self._due) + 1)))
        for project_id, part, count in rows:
            its = projects[project_id]
            if part == _RUNNING:
                its.running = count
            elif count:
                its.parts[part] = count
        places = {}
        for number, job in enumerate(self._due):
            own = projects[job.project_id]
            before = own.before(number)
            turn = own.running + before + 1
            others = (one.ahead(turn, number) for one in projects.values() if one is not own)
            places[job.id] = 1 + before + sum(others)
        return places, sum(sum(one.parts) for one in projects.values())


@dataclass
class _Project:
    parts: list[int]
    """Due jobs by the part of the order that they are in: from the job of one number on (all before the
    first: part 0) up to the next."""
    running: int = 0

    def before(self, number: int) -> int:
        """Due jobs that come before that of this number in the order within a project."""
        return sum(self.parts[: number + 1])

    def ahead(self, turn: int, number: int) -> int:
        """Due jobs that come before that of this number, of another project, which has this turn."""
        rank = turn - self.running  # of the project's own job that has the same turn
        earlier = min(max(0, rank - 1), sum(self.parts))
        return earlier + (1 <= rank <= self.before(number))


#: In place of the number of a part of the order.
_RUNNING = -1


@lru_cache
def _standings(alike: tuple[int, ...], postgresql: bool) -> CompoundSelect[str, int, int]:
    """Project, part of the order and number of its due jobs there, where so many jobs in turn (``alike``)
    have one priority; and with :data:`_RUNNING` the number of those that run."""
    part = _part(alike).label("part")
    # Of ids: where a project has no job, SQLite has a row for it all the same.
    each = select(part, func.count(Job.id).label("jobs"))
    if alike:  # else the part is a number, and GROUP BY would take it for that of a column
        each = each.group_by(part)
    return union_all(
        _of_each_project(each, is_due(bindparam("now", type_=Double)), postgresql),
        select(Job.project_id, literal_column(str(_RUNNING)), func.count())
        .where(_is_held())
        .group_by(Job.project_id),
    )


def _part(alike: tuple[int, ...]) -> ColumnElement[int]:
    """Of a row: how many of the jobs it does not come before. Comparing is what takes long."""
    parts, number = [], 0
    for group, count in enumerate(alike):
        priority = bindparam(f"priority_{group}", type_=Integer)
        parts.append((Job.priority > priority, _number(number)))
        parts.append((Job.priority == priority, _by_age(number, number + count)))
        number += count
    return case(*parts, else_=_number(number)) if parts else _number(0)


def _by_age(low: int, high: int) -> ColumnElement[int]:
    """The same of a row of one priority, from ``low`` to ``high``: the ends first, where most rows are for a
    page of jobs, and what is between them by halves."""
    ends = (_is_before(low), _number(low)), (~_is_before(high - 1), _number(high))
    return case(*ends, else_=_half(low + 1, high - 1)) if high - low > 1 else case(*ends)


def _half(low: int, high: int) -> ColumnElement[int]:
    if low == high:
        return _number(low)
    middle = (low + high) // 2
    return case((_is_before(middle), _half(low, middle)), else_=_half(middle + 1, high))


def _is_before(number: int) -> ColumnElement[bool]:
    age = bindparam(f"created_{number}", type_=Double), bindparam(f"id_{number}", type_=String)
    return tuple_(Job.created_at, Job.id) < tuple_(*age)


def _number(number: int) -> ColumnElement[int]:
    return literal_column(str(number), Integer)


def _of_each_project(
    query: Select[int, int], having: tuple[ColumnElement[bool], ...], postgresql: bool
) -> Select[str, int, int]:
    """The query of each project's jobs that are so, the project's id first.

    PostgreSQL compares the project of each row where it groups by it, and goes by project where it is told.
    """
    of_project = (Job.project_id == Project.id, *having)
    if postgresql:
        own = query.where(*of_project).correlate(Project).lateral()
        return select(Project.id, own).join(own, true())
    # An outer join, whose order SQLite keeps: the other way round it reads the row of each job that waits.
    joined = query.select_from(Project).outerjoin(Job, and_(*of_project))
    return joined.with_only_columns(Project.id, *query.selected_columns).group_by(Project.id)


def later_places(now: ColumnElement[float] | float) -> Subquery:
    """``id`` and ``place`` of the queued jobs that have a time to wait for: they come behind those that are
    due, and the first of them has place 1 here."""
    order = (Job.not_before, *_OWN_ORDER)
    place = func.row_number().over(order_by=order).label("place")
    return select(Job.id, place).where(*_is_waiting(), Job.not_before > now).subquery()


def waiting_by_project(now: float) -> Select[str, int, int, float]:
    """Project, due jobs, those that wait for a time of their own, and when the oldest due one was made."""
    due = Job.not_before <= now
    return (
        select(
            Job.project_id,
            func.count(Job.id).filter(due).label("waiting"),
            func.count(Job.id).filter(Job.not_before > now).label("later"),
            func.min(Job.created_at).filter(due).label("oldest"),
        )
        .where(*_is_waiting())
        .group_by(Job.project_id)
        .order_by(Job.project_id)
    )


def own_due(project_id: str, now: float) -> Select[Job]:
    """The project's due jobs in their order."""
    return select(Job).where(*is_due(now), Job.project_id == project_id).order_by(*_OWN_ORDER)


def any_fits(session: Session, now: float, least: int, room: int) -> bool:
    """Whether a job that is due begins with so many GPUs of a worker, from ``least`` to ``room``."""
    fits = select(Job.id).where(*is_due(now), Job.least_gpus.between(least, room))
    # In the index's order, or PostgreSQL takes the first of many to be near and reads the table for it.
    return session.scalar(fits.order_by(Job.project_id, *_OWN_ORDER).limit(1)) is not None


def first_due(
    now: ColumnElement[float] | float,
    *,
    heads: int,
    postgresql: bool,
    room: tuple[ColumnElement[int] | int, ColumnElement[int] | int] | None = None,
) -> Select[str]:
    """Ids of the jobs that are due and next, in order: of each project the first ``heads``.

    With ``room`` those alone that begin with so many GPUs of a worker: from the first number, which is 0
    where it takes runs on a Ray cluster and else 1, to the second.
    """

    def waiting(job: type[Job]) -> tuple[ColumnElement[bool], ...]:
        return is_due(now, job) if room is None else (*is_due(now, job), job.least_gpus.between(*room))

    rank = func.row_number().over(partition_by=Job.project_id, order_by=_OWN_ORDER).label("rank")
    due = select(Job.id, Job.project_id, Job.priority, Job.created_at, rank)
    # Written out: of a limit that it does not know PostgreSQL thinks so ill that it plans anew each time.
    limit = literal_column(str(heads), Integer)
    if postgresql:
        due = due.where(*waiting(Job), Job.project_id == Project.id).order_by(*_OWN_ORDER).limit(limit)
        first = due.correlate(Project).lateral()
        query = select(Job.id).select_from(Project).join(first, true()).join(Job, Job.id == first.c.id)
        # Again, of the row that will be locked: it may have been taken since.
        query = query.where(*waiting(Job))
    else:
        # It knows no LATERAL, but finds the rows of a list of ids that it makes for each project.
        own = aliased(Job)
        ids = select(own.id).where(*waiting(own), own.project_id == Project.id)
        ids = ids.order_by(own.priority.desc(), own.created_at, own.id).limit(limit).correlate(Project)
        first = due.select_from(Project).join(Job, Job.id.in_(ids)).subquery()
        query = select(first.c.id)
    running = _running()
    turn = first.c.rank + func.coalesce(running.c.jobs, 0)
    query = query.outerjoin(running, running.c.project_id == first.c.project_id)
    return query.order_by(turn, first.c.priority.desc(), first.c.created_at, first.c.id)


def _running() -> Any:
    return (
        select(Job.project_id, func.count().label("jobs"))
        .where(_is_held())
        .group_by(Job.project_id)
        .subquery()
    )


def _is_held() -> ColumnElement[bool]:
    # Not "or": PostgreSQL reads the whole index for it. Written out, as a text that is made once must be.
    return Job.status.in_([literal_column(f"'{status.value}'") for status in HELD])
