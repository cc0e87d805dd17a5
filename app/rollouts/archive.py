"""The archive of an ended job's rollouts: parts, each a folder of two compressed files.

``rollouts.jsonl.gz`` has an object a line, the columns of a rollout; ``tokens.jsonl.gz`` has, line by line of
the same rollouts, what is known of their tokens, which is ten times as much and seldom asked for. A part lies
where checkpoints do: in the run's folder, or in the store (``app.core.store.runs``). Its files are there
before its row is; when all parts of a job are there they may stand in for its rows (:func:`stand_in`).
"""

import contextlib
import gzip
import json
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO

from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from app.core.db import READS
from app.core.errors import Unavailable
from app.core.settings import get_settings
from app.core.store.artefacts import in_use, local
from app.core.store.errors import Damaged, NotStored
from app.core.store.runs import archive_here, archive_reference
from app.core.strict_json import JsonObject
from app.core.tables import Rollout, RolloutArchive
from app.rollouts.filters import Filter, Key, key_of

ROLLOUTS, TOKENS = "rollouts.jsonl.gz", "tokens.jsonl.gz"
_LEVEL = 3
_COLUMNS = [name for name in Rollout.__table__.columns.keys() if name not in ("job_id", "details")]  # noqa: SIM118 (a collection of columns)


class Writing:
    """A part on its way into ``folder``. The same rollouts give the same bytes."""

    def __init__(self, folder: Path):
        self.bytes = 0
        """Before they are compressed."""
        self.count = 0
        self.lowest_id = self.highest_id = 0
        self.first: Key | None = None
        self.last: Key | None = None
        self._files = contextlib.ExitStack()
        self._rollouts, self._tokens = (self._open(folder / name) for name in (ROLLOUTS, TOKENS))

    def add(self, row: Rollout) -> None:
        """Write the next rollout, in the order of their keys, with its details."""
        for file, value in (
            (self._rollouts, {name: getattr(row, name) for name in _COLUMNS}),
            (self._tokens, row.details),
        ):
            line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
            file.write(line)
            self.bytes += len(line)
        self.last = key_of(row)
        self.first = self.first or self.last
        self.lowest_id = min(self.lowest_id, row.id) if self.count else row.id
        self.highest_id = max(self.highest_id, row.id)
        self.count += 1

    def close(self) -> None:
        self._files.close()

    def _open(self, path: Path) -> IO[bytes]:
        file = self._files.enter_context(path.open("wb"))
        # Without a name and a time in it.
        return self._files.enter_context(gzip.GzipFile("", "wb", _LEVEL, file, mtime=0))  # type: ignore[return-value]


def parts_of(session: Session, job_id: str) -> Sequence[RolloutArchive]:
    """The parts that a job's rollouts are to be read from, in their order; none: its rows are read."""
    mine = select(RolloutArchive).where(RolloutArchive.job_id == job_id, RolloutArchive.sole)
    return session.scalars(mine.order_by(RolloutArchive.number)).all()


def stand_in(session: Session, jobs: Sequence[str]) -> set[str]:
    """Have the archives of those of ``jobs`` that are complete read in place of rows, which may go then;
    which jobs have one."""
    complete = set(
        session.scalars(
            select(RolloutArchive.job_id).where(RolloutArchive.job_id.in_(jobs), RolloutArchive.complete)
        )
    )
    session.execute(
        update(RolloutArchive)
        .where(RolloutArchive.job_id.in_(complete), ~RolloutArchive.sole)
        .values(sole=True)
        .execution_options(synchronize_session=False)
    )
    return complete


def listing(
    parts: Sequence[RolloutArchive], wanted: Filter, *, after: Key | None, limit: int
) -> list[Rollout]:
    """Up to ``limit`` of the wanted rollouts in the order of their keys; without their per-token details.

    Raises StoreError, and Unavailable where to read on would take as long as no query may.
    """
    found: list[Rollout] = []
    for row in _through(parts, wanted, after, whole=False):
        found.append(row)
        if len(found) == limit:
            break
    return found


def every(parts: Sequence[RolloutArchive], wanted: Filter, after: Key | None) -> Iterator[Rollout]:
    """All wanted rollouts with their details, one at a time and however long it takes."""
    return _through(parts, wanted, after, whole=True)


def find(parts: Sequence[RolloutArchive], number: int, *, whole: bool = False) -> Rollout | None:
    """The rollout ``number``; with its details, if it is to be ``whole``."""
    for part in parts:
        if part.lowest_id <= number <= part.highest_id:
            with contextlib.closing(_read(part, ROLLOUTS)) as rows:
                place, row = next(((n, one) for n, one in enumerate(rows) if one["id"] == number), (0, None))
            if row is not None:
                return _rollout(part, row, _nth(part, place) if whole else None)
    return None


def _through(
    parts: Sequence[RolloutArchive], wanted: Filter, after: Key | None, *, whole: bool
) -> Iterator[Rollout]:
    patience = get_settings().database_statement_seconds
    until = time.monotonic() + patience if patience and not whole else float("inf")
    reads = READS.get()
    for part in parts:
        if (after is not None and _last_key(part) <= after) or not _may_have(part, wanted):
            continue
        if reads is not None and reads.ended:
            raise ClientDisconnect
        with contextlib.ExitStack() as open_files:
            rows = open_files.enter_context(contextlib.closing(_read(part, ROLLOUTS)))
            tokens = open_files.enter_context(contextlib.closing(_read(part, TOKENS))) if whole else None
            for values in rows:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"Reading the archive of the job's rollouts took longer than {patience:g} s. "
                        "Request less: give a step.",
                        code="archive_timeout",
                    )
                row = _rollout(part, values, None if tokens is None else next(tokens))
                if (after is None or key_of(row) > after) and wanted.takes(row):
                    yield row


def _may_have(part: RolloutArchive, wanted: Filter) -> bool:
    return wanted.step is None or part.first_step <= wanted.step <= part.last_step


def _last_key(part: RolloutArchive) -> Key:
    return part.last_step, part.last_group, part.last_index


def _rollout(part: RolloutArchive, values: JsonObject, details: JsonObject | None) -> Rollout:
    return Rollout(job_id=part.job_id, details=details, **values)


def _nth(part: RolloutArchive, place: int) -> JsonObject:
    with contextlib.closing(_lines(part, TOKENS)) as lines:
        return next(json.loads(line) for n, line in enumerate(lines) if n == place)


def _read(part: RolloutArchive, name: str) -> Generator[JsonObject]:
    with contextlib.closing(_lines(part, name)) as lines:
        for line in lines:
            yield json.loads(line)


def _lines(part: RolloutArchive, name: str) -> Generator[bytes]:
    """The lines of one of a part's files. Raises NotStored and Damaged."""
    reference = archive_reference(part.job_id, part.number, part.digest)
    what = f"steps {part.first_step} to {part.last_step} of {part.job_id}"
    folder = archive_here(part.job_id, part.number, part.digest)
    try:
        with in_use([str(reference)]) if not folder.is_dir() else contextlib.nullcontext():
            if not folder.is_dir():
                folder = local(str(reference), lambda one: one == name)
            count = 0
            with gzip.open(folder / name) as file:
                for line in file:
                    yield line
                    count += 1
            if count != part.count:
                raise EOFError
    except FileNotFoundError:
        raise NotStored(f"The archived rollouts of {what} are missing from where they were stored.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(f"The archived rollouts of {what} are damaged: {folder / name}.") from error
