"""Archives of rollouts: made of ended jobs, whose rows no longer change, a part at a time.

A part's files are where all hosts find them before its row is written, and rows go when the row of the last
part says that it is. Whatever stops in between is gone on with after the last part that has a row; files that
got none are found by ``worker.sweeping``. Several workers may be at the same job: one part of each number
gets a row, and who comes second leaves the job to the other.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.store import artefacts
from app.core.store.errors import StoreError
from app.core.store.remote import remote
from app.core.store.runs import archive_here, archive_reference
from app.core.store.trees import Tree
from app.core.tables import DELETED_PROJECT, Job, RolloutArchive
from app.rollouts.archive import Writing
from app.rollouts.filters import Key
from app.rollouts.repository import next_rows
from trainer.system.files import TEMPORARY, put_in_place, sync

#: Of a part, before it is compressed: what is read of it at once where one rollout is asked for.
PART_BYTES = 16 << 20
#: Rows that are held in memory at a time: with long responses, some megabytes.
ROWS = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """Files that are in their place, and have no row yet."""

    number: int
    digest: str
    bytes: int
    written: Writing
    complete: bool


def archive(job_id: str, stops: Callable[[], bool]) -> bool:
    """Have all rollouts of an ended job in its archive; whether they are, and it is not left to another.

    A store that is away, and a disk that is full, are told of in the log.
    """
    try:
        while not stops():
            with read_session() as session:
                last = _last_part(session, job_id)
            if last is not None and last.complete:
                return True
            after = None if last is None else (last.last_step, last.last_group, last.last_index)
            part = _write(job_id, 0 if last is None else last.number + 1, after)
            if part is not None:
                if not _record(job_id, part):
                    return False
            elif last is not None:
                _complete(job_id, last.number)  # it was full just with the last of them
            else:
                return True  # there is nothing to keep
    except (StoreError, OSError) as error:
        _log.warning("the rollouts of %s stay in the database for now: %s", job_id, error)
    return False


def _last_part(session: Session, job_id: str) -> RolloutArchive | None:
    parts = select(RolloutArchive).where(RolloutArchive.job_id == job_id)
    return session.scalars(parts.order_by(RolloutArchive.number.desc()).limit(1)).first()


def _write(job_id: str, number: int, after: Key | None) -> _Part | None:
    """Put the files of the next part where all hosts find them; None: there are no more rollouts."""
    folder = get_settings().runs_dir / job_id / "rollouts" / f".part-{number}{TEMPORARY}{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        with contextlib.closing(Writing(folder)) as writing:
            rows, complete = 0, False
            while writing.bytes < PART_BYTES and not complete:
                with read_session() as session:
                    found = next_rows(session, job_id, after=writing.last or after, limit=ROWS)
                for row in found:
                    writing.add(row)
                rows, complete = rows + len(found), len(found) < ROWS
        if not rows:
            return None
        tree = Tree.of(folder)
        size = sum(one.bytes for one in tree.files.values())
        _keep(job_id, number, folder, tree.digest)
        return _Part(number, tree.digest, size, writing, complete)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(job_id: str, number: int, folder: Path, digest: str) -> None:
    for path in folder.iterdir():
        sync(path)
    if remote() is not None:
        artefacts.keep(archive_reference(job_id, number, digest).name, folder)
        return
    target = archive_here(job_id, number, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        put_in_place(folder, target)
    except OSError:
        if not target.is_dir():  # of two who come at once either has the same bytes
            raise


def _record(job_id: str, part: _Part) -> bool:
    """Write the row of a part; whether it is ours that stays."""
    with write_session() as session:
        # Locked: its deletion waits, or has been.
        job = session.scalar(
            select(Job).where(Job.id == job_id, Job.project_id != DELETED_PROJECT).with_for_update()
        )
        before = _last_part(session, job_id)
        follows = part.number == (0 if before is None else before.number + 1)
        if job is not None and follows:
            session.add(_row(job_id, part))
            job.disk_bytes += part.bytes
            return True
        known = session.get(RolloutArchive, (job_id, part.number))
    if known is None or known.digest != part.digest:
        remove(job_id, part.number, part.digest)
    return False


def _row(job_id: str, part: _Part) -> RolloutArchive:
    written = part.written
    assert written.first is not None
    assert written.last is not None
    last_step, last_group, last_index = written.last
    return RolloutArchive(
        job_id=job_id,
        number=part.number,
        digest=part.digest,
        bytes=part.bytes,
        count=written.count,
        first_step=written.first[0],
        last_step=last_step,
        last_group=last_group,
        last_index=last_index,
        lowest_id=written.lowest_id,
        highest_id=written.highest_id,
        complete=part.complete,
        sole=False,
    )


def _complete(job_id: str, number: int) -> None:
    """Note that no rollouts come after the part."""
    with write_session() as session:
        session.execute(
            update(RolloutArchive)
            .where(RolloutArchive.job_id == job_id, RolloutArchive.number == number)
            .values(complete=True)
        )


def remove(job_id: str, number: int, digest: str) -> None:
    """Remove the files of a part that no row names any more, here and in the store."""
    here = archive_here(job_id, number, digest)
    shutil.rmtree(here, ignore_errors=True)
    with contextlib.suppress(OSError):
        here.parent.rmdir()
    artefacts.remove_below(archive_reference(job_id, number, digest).prefix)
