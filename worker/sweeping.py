"""Removes from the store, and from this host's part of it, what no row names: left by what was cut off.

A file, a checkpoint, an archive or a state goes up before its row is written, and a row goes before its
files do. Whatever stops in between leaves files that nobody finds; they are a day old before they go.
"""

import logging
import shutil
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from app.core.db import read_session
from app.core.job_status import is_terminal
from app.core.settings import get_settings
from app.core.store.artefacts import cache
from app.core.store.errors import StoreError
from app.core.store.remote import Remote, remote
from app.core.store.runs import archive_reference
from app.core.store.trees import Reference
from app.core.tables import Checkpoint, File, Job, RolloutArchive

_DAY = timedelta(days=1)
_SWEPT = "swept"
_SOME = 500
_log = logging.getLogger(__name__)


def sweep(now: datetime | None = None) -> None:
    """One pass; over the store itself once a day, whichever worker comes first."""
    now = now or datetime.now(UTC)
    _sweep_archives(now)
    if (store := remote()) is None:
        return
    try:
        sweep_host(now)
        if _is_due(store, now):
            _sweep_store(store, now)
    except StoreError as error:
        _log.warning("the store could not be searched for orphans: %s", error)


def sweep_host(now: datetime | None = None) -> None:
    """Remove what this host has at hand of what was deleted, and folders of runs that are over."""
    now = now or datetime.now(UTC)
    mine = cache()
    if mine is None:
        return
    here = [reference for _, _, reference in mine.entries()]
    for reference in set(here) - _named(here):
        mine.drop(reference)
    old = [path for path in get_settings().runs_dir.glob("ftjob-*") if path.is_dir() and _is_old(path, now)]
    for start in range(0, len(old), _SOME):
        part = old[start : start + _SOME]
        needed = _needed([path.name for path in part])
        for path in part:
            if path.name not in needed:
                shutil.rmtree(path, ignore_errors=True)


def _needed(job_ids: Collection[str]) -> set[str]:
    """Of which the folders here are needed: what is under way, and what was never brought into the store."""
    store = remote()
    assert store is not None
    here = select(Checkpoint.job_id).where(Checkpoint.job_id.in_(job_ids), ~Checkpoint.path.like("store:%"))
    with read_session() as session:
        needed = set(session.scalars(here))
    for one in _archived(job_ids):
        if (get_settings().data_dir / one.prefix).is_dir() and not store.has(one.tree_path):
            needed.add(one.name.split("/")[1])
    return needed | _unfinished(job_ids)


def _is_old(path: Path, now: datetime) -> bool:
    try:
        return now.timestamp() - path.stat().st_mtime > _DAY.total_seconds()
    except FileNotFoundError:
        return False


def _sweep_archives(now: datetime) -> None:
    """Remove what is left here of archives whose making was cut off, or their removal."""
    runs = get_settings().runs_dir
    for pattern in ("ftjob-*/rollouts/.part-*", "ftjob-*/rollouts/part-*/*"):
        old = [path for path in runs.glob(pattern) if _is_old(path, now)]
        for start in range(0, len(old), _SOME):
            some = old[start : start + _SOME]
            named = _archived({path.relative_to(runs).parts[0] for path in some})
            for path in set(some) - {runs.parent / reference.prefix for reference in named}:
                shutil.rmtree(path, ignore_errors=True)


def _is_due(store: Remote, now: datetime) -> bool:
    marks = list(store.list(_SWEPT))
    if any(now - one.modified < _DAY for one in marks):
        return False
    store.remove([one.path for one in marks])
    store.put_bytes(f"{_SWEPT}/{now:%Y-%m-%d}", b"")
    return True


def _sweep_store(store: Remote, now: datetime) -> None:
    newest: dict[Reference, datetime] = {}
    for one in (*store.list("files"), *store.list("runs")):
        reference = _reference(one.path)
        if reference is not None:
            newest[reference] = max(one.modified, newest.get(reference, one.modified))
    old = [reference for reference, when in newest.items() if now - when > _DAY]
    for reference in set(old) - _named(old):
        store.remove([one.path for one in store.list(reference.prefix)])
        _log.info("removed %s from the store, as no row refers to it", reference.prefix)


def _reference(path: str) -> Reference | None:
    """Of ``files/ID/DIGEST/…`` and ``runs/JOB/KIND/STEP/DIGEST/…``."""
    parts = path.split("/")
    length = 2 if parts[0] == "files" else 4
    return Reference("/".join(parts[:length]), parts[length]) if len(parts) > length + 1 else None


def _named(references: Iterable[Reference]) -> set[Reference]:
    """Those that a row names, or that are of no kind that rows name."""
    found = set[Reference]()
    kinds: dict[str, list[Reference]] = {}
    for one in references:
        first, *below = one.name.split("/")
        kind = below[1] if below[1:] and below[1] in ("states", "rollouts") else first
        kinds.setdefault(kind, []).append(one)
    for kind, some in kinds.items():
        for start in range(0, len(some), _SOME):
            part = some[start : start + _SOME]
            if kind == "files":
                there = _ids(File.id, {one.name.split("/")[1] for one in part})
                found.update(one for one in part if one.name.split("/")[1] in there)
            elif kind == "states":
                running = _unfinished({one.name.split("/")[1] for one in part})
                found.update(one for one in part if one.name.split("/")[1] in running)
            elif kind == "rollouts":
                found.update(_archived({one.name.split("/")[1] for one in part}).intersection(part))
            elif kind == "runs":
                there = _ids(Checkpoint.path, {str(one) for one in part})
                found.update(one for one in part if str(one) in there)
            else:
                found.update(part)
    return found


def _archived(job_ids: Collection[str]) -> set[Reference]:
    """What is in the archives of these jobs."""
    columns = RolloutArchive.job_id, RolloutArchive.number, RolloutArchive.digest
    with read_session() as session:
        rows = session.execute(select(*columns).where(RolloutArchive.job_id.in_(job_ids))).all()
    return {archive_reference(*row) for row in rows}


def _ids(column: object, values: Collection[str]) -> set[str]:
    with read_session() as session:
        return set(session.scalars(select(column).where(column.in_(values))))  # type: ignore[call-overload,attr-defined]


def _unfinished(job_ids: Collection[str]) -> set[str]:
    with read_session() as session:
        rows = session.execute(select(Job.id, Job.status).where(Job.id.in_(job_ids))).all()
    return {job_id for job_id, status in rows if not is_terminal(status)}
