"""What finished jobs leave behind expires by policy, and what was deleted goes. It has a thread of its own.

Each thing has a limit of its own in days (``POLICYSPLIT_RETAIN_…_DAYS``; 0 keeps it), counted from the job's
end, or from the upload of a file, whose uploader may have given an earlier one. A pass goes on until nothing
is due. Its transactions are small and pass over rows that others have locked, so any number of workers share
the work, and no request waits for it: after each the pass pauses for as long as it took, and leaves the
database to others.
Metrics stay: they are small, and the job is nothing without them; what of ended jobs was never packed is.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from sqlalchemy import ColumnElement, delete, exists, select, tuple_
from sqlalchemy.orm import Session

from app.accounting.counting import Place, day_of, note_storage
from app.accounting.limits import stored_bytes
from app.audit.service import remove_old
from app.checkpoints.repository import count_checkpoints
from app.core.db import read_session, write_session
from app.core.job_log import add_messages
from app.core.settings import get_settings
from app.core.store.artefacts import remove
from app.core.tables import (
    DELETED_PROJECT,
    Checkpoint,
    EvalOutputItem,
    EvalRun,
    File,
    Job,
    JobEvent,
    MetricSeries,
    Project,
    Rollout,
    RolloutArchive,
)
from app.evals import deletion as evals
from app.files import storage
from app.jobs import deletion
from app.jobs.deletion import delete_some, remove_deleted
from app.rollouts.archive import stand_in
from app.series.repository import next_series_with_points, pack_some
from app.storage.expiry import DAY, checkpoint_may_go, file_may_go, kept_days
from worker.archiving import archive
from worker.archiving import remove as remove_part
from worker.shutdown import Shutdown
from worker.sweeping import sweep

#: Jobs that are looked at, checkpoints or files that go, in one transaction.
ROWS = 50
#: The longest pause after a transaction, in seconds.
PAUSE = 1.0
_log = logging.getLogger(__name__)


class Retention:
    """What the retention's thread does whenever it looks: deleted jobs at once, what expires now and then."""

    def __init__(self, shutdown: Shutdown):
        self._shutdown, self._next = shutdown, 0.0

    def look(self) -> None:
        """One pass over what is due by now."""
        remove_deleted(Pauses(self._shutdown))
        evals.remove_deleted(Pauses(self._shutdown))
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + get_settings().retention_seconds
            expire(shutdown=self._shutdown)


class Pauses:
    """Called between two transactions: pauses for as long as the last one took, and says whether to stop."""

    def __init__(self, shutdown: Shutdown | None = None):
        self._shutdown = shutdown or Shutdown()
        self._since = time.monotonic()

    def __call__(self) -> bool:
        stops = self._shutdown.wait(min(time.monotonic() - self._since, PAUSE))
        self._since = time.monotonic()
        return stops


def expire(now: float | None = None, shutdown: Shutdown | None = None) -> None:
    """One pass over everything that has a limit, until nothing is due or the worker stops."""
    now = time.time() if now is None else now
    stops, kept = Pauses(shutdown), kept_days()
    archives = _Archives(now, kept["rollout_archives"])
    if days := kept["rollouts"]:
        _expire_rows(Rollout, "rollouts", now - days * DAY, stops, archives.made)
    if get_settings().archive_rollouts == "ended":
        archives.make_all(now, stops)
    if kept["rollout_archives"]:
        archives.expire(stops)
    if days := kept["events"]:
        _expire_rows(JobEvent, "events", now - days * DAY, stops)
    if days := kept["checkpoints"]:
        _expire_checkpoints(now - days * DAY, stops)
    if days := kept["eval_items"]:
        _expire_eval_items(now - days * DAY, stops)
    if days := kept["files"]:
        _expire_files(File.created_at < now - days * DAY, stops)
    _expire_files(File.expires_at < now, stops)
    if days := get_settings().retain_audit_days:
        _expire_audit_log(now - days * DAY, stops)
    note_stored(stops)
    pack_ended(stops)
    sweep()


def _ended_jobs(before: float, stops: Pauses, *having: ColumnElement[bool]) -> Iterator[Sequence[str]]:
    """Jobs that ended before ``before``, some at a time."""
    place: tuple[float, str] | None = None
    while not stops():
        query = select(Job.id, Job.finished_at).where(Job.finished_at < before, *having)
        if place is not None:
            query = query.where(tuple_(Job.finished_at, Job.id) > place)
        with read_session() as session:
            rows = session.execute(query.order_by(Job.finished_at, Job.id).limit(ROWS)).all()
        if not rows:
            return
        yield [row.id for row in rows]
        place = (rows[-1].finished_at, rows[-1].id)


def _expire_rows(
    table: type[Rollout] | type[JobEvent],
    what: str,
    before: float,
    stops: Pauses,
    archived: Callable[[Sequence[str], Pauses], tuple[Sequence[str], set[str]]] | None = None,
) -> None:
    """A transaction takes as many jobs as there is room for: most have few rows.

    ``archived``: which of some jobs may lose their rows, and of which of these there is an archive.
    """
    there = exists().where(table.job_id == Job.id)
    for jobs in _ended_jobs(before, stops, there):
        may_go, kept = (jobs, set[str]()) if archived is None else archived(jobs, stops)
        left, total = list(reversed(may_go)), 0
        while left and not stops():
            room, ended = deletion.ROWS, dict[str, int]()
            with write_session() as session:
                while left and room:
                    removed = delete_some(session, table, left[-1], room)
                    room, total = room - removed, total + removed
                    if room:
                        ended[left.pop()], total = total, 0
                if table is Rollout:
                    _tell(session, ended, what, kept)
            for job_id, count in ended.items():
                _log.info("%s: %s %s have expired", job_id, count, what)
        if total and table is Rollout:
            with write_session() as session:
                _tell(session, {left[-1]: total}, what, kept)


def _tell(session: Session, counts: Mapping[str, int], what: str, archived: Collection[str] = ()) -> None:
    told: dict[str, tuple[str, dict[str, object]]] = {}
    for job_id, count in counts.items():
        if count:
            rest = ": from now on they are read from the archive." if job_id in archived else "."
            told[job_id] = f"{count:,} {what} have expired{rest}", {what.replace(" ", "_"): count}
    add_messages(session, told)


class _Archives:
    """What is done about archives of rollouts in a pass: none is made that would expire in it."""

    def __init__(self, now: float, days: float):
        self._worth = now - days * DAY if days else 0.0

    def made(self, jobs: Sequence[str], stops: Pauses) -> tuple[Sequence[str], set[str]]:
        """Have archives stand in for rows that are to go; which rows may, and which have one."""
        waiting = set[str]()
        if get_settings().archive_rollouts != "never":
            with read_session() as session:
                query = select(Job.id).where(Job.id.in_(jobs), Job.finished_at >= self._worth)
                wanted = session.scalars(query).all()
            waiting = {job_id for job_id in wanted if not archive(job_id, stops)}
        may_go = [job_id for job_id in jobs if job_id not in waiting]
        with write_session() as session:
            return may_go, stand_in(session, may_go)

    def make_all(self, now: float, stops: Pauses) -> None:
        """Of each ended job that has rollouts and no whole archive."""
        has_rows = exists().where(Rollout.job_id == Job.id)
        has_all = exists().where(RolloutArchive.job_id == Job.id, RolloutArchive.complete)
        for jobs in _ended_jobs(now, stops, Job.finished_at >= self._worth, has_rows, ~has_all):
            for job_id in jobs:
                archive(job_id, stops)

    def expire(self, stops: Pauses) -> None:
        has_some = exists().where(RolloutArchive.job_id == Job.id)
        columns = (
            RolloutArchive.number,
            RolloutArchive.digest,
            RolloutArchive.bytes,
            RolloutArchive.count.label("rollouts"),
        )
        for jobs in _ended_jobs(self._worth, stops, has_some):
            for job_id in jobs:
                with write_session() as session:
                    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
                    mine = delete(RolloutArchive).where(RolloutArchive.job_id == job_id)
                    parts = session.execute(mine.returning(*columns)).all()
                    if job is not None:
                        job.disk_bytes = max(0, job.disk_bytes - sum(part.bytes for part in parts))
                        _tell(session, {job_id: sum(part.rollouts for part in parts)}, "archived rollouts")
                for part in parts:
                    remove_part(job_id, part.number, part.digest)
                if stops():
                    return


def _expire_checkpoints(before: float, stops: Pauses) -> None:
    """All but the one that is its job's result, and those that a job starts from."""
    for jobs in _ended_jobs(before, stops):
        due = (
            select(Checkpoint.id, Checkpoint.path, Checkpoint.job_id)
            .join(Job, Job.id == Checkpoint.job_id)
            .where(Checkpoint.job_id.in_(jobs), *checkpoint_may_go())
            .limit(ROWS)
            .with_for_update(skip_locked=True, of=Checkpoint)
        )
        while not stops():
            with write_session() as session:
                found = session.execute(due).all()
                session.execute(delete(Checkpoint).where(Checkpoint.id.in_([row.id for row in found])))
                expired = Counter(row.job_id for row in found)
                add_messages(session, {job_id: _of_checkpoints(count) for job_id, count in expired.items()})
                count_checkpoints(session, expired)
            for row in found:
                remove(row.path, get_settings().runs_dir)
                _log.info("the checkpoint in %s has expired", row.path)
            if len(found) < ROWS:
                break


def _expire_eval_items(before: float, stops: Pauses) -> None:
    """Of runs that ended before ``before``; what they came to is in the runs' own rows."""
    has_items = exists().where(EvalOutputItem.run_id == EvalRun.id)
    due = select(EvalRun.id).where(EvalRun.finished_at < before, has_items).limit(1)
    while not stops():
        with read_session() as session:
            run_id = session.scalars(due).first()
        if run_id is None or not evals.remove_all_items(run_id, stops):
            return
        _log.info("the items of %s have expired", run_id)


def _of_checkpoints(count: int) -> tuple[str, dict[str, object]]:
    what, have = ("checkpoints", "have") if count > 1 else ("checkpoint", "has")
    return f"{count} {what} of the job {have} expired.", {"checkpoints": count}


def _expire_files(is_due: ColumnElement[bool], stops: Pauses) -> None:
    """Uploaded files that no unfinished job needs."""
    due = select(File.id).where(is_due, *file_may_go())
    while not stops():
        with write_session() as session:
            # Locked: a job that is being made of one holds the same lock.
            ids = session.scalars(due.limit(ROWS).with_for_update(skip_locked=True, of=File)).all()
            session.execute(delete(File).where(File.id.in_(ids)))
        for file_id in ids:
            storage.remove(file_id)
            _log.info("%s has expired", file_id)
        if not ids:
            return


def _expire_audit_log(before: float, stops: Pauses) -> None:
    while not stops():
        with write_session() as session:
            if not remove_old(session, before):
                return


def note_stored(stops: Callable[[], bool]) -> None:
    """Keep for the books what each project takes today."""
    with read_session() as session:
        projects = session.scalars(select(Project.id).where(Project.id != DELETED_PROJECT)).all()
    for project_id in projects:
        if stops():
            return
        with write_session() as session:
            size = stored_bytes(session, project_id)
            note_storage(session, Place(project_id, day_of(time.time())), size)


def pack_ended(stops: Callable[[], bool]) -> None:
    """Pack the points of ended jobs that are rows still: of releases that did not pack."""
    last = -1
    while not stops():
        with write_session() as session:
            number = next_series_with_points(session, last)
            if number is None:
                return
            owner = select(MetricSeries.job_id).where(MetricSeries.id == number).scalar_subquery()
            job = select(Job.id).where(Job.id == owner, Job.finished_at.is_not(None))
            held = session.scalar(job.with_for_update(skip_locked=True))
            if held is None or not pack_some(session, number):
                last = number
