"""From a data directory to a store: what rows speak of goes up, and then the rows name it there.

Any step may be the last one: what is up is not sent again, and a row that names the store is done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import exists, select, update

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.store.artefacts import base_place, is_stored, keep, publish_base
from app.core.store.remote import remote
from app.core.store.runs import (
    archive_here,
    archive_reference,
    checkpoint_name,
    link_state,
    send_state,
    steps_in,
)
from app.core.store.specs import with_places
from app.core.strict_json import JsonObject
from app.core.tables import Checkpoint, Estimate, File, Job, RolloutArchive
from app.core.unfinished import unfinished
from app.files.storage import keep_in_store, path_of, place_of
from app.models.catalog import own_models

_ROWS = 200
Row = TypeVar("Row", bound=Job | Estimate | File | Checkpoint)


@dataclass
class Moved:
    """How many of each are in the store now, and what rows speak of that this host does not have."""

    files: int = 0
    checkpoints: int = 0
    rollout_archives: int = 0
    states: int = 0
    models: int = 0
    missing: list[str] = field(default_factory=list[str])


def move(told: Callable[[str], None]) -> Moved:
    """Move everything; ``told`` hears of each thing that goes up. Raises StoreError."""
    moved = Moved()
    for name in own_models():
        told(f"base model {name}")
        publish_base(name, get_settings().models_dir / name)
        moved.models += 1
    for file in _rows(File):
        if path_of(file.id).is_file():
            told(f"file {file.id}")
            keep_in_store(file, path_of(file.id).parent)
            moved.files += 1
    for checkpoint in _rows(Checkpoint):
        if is_stored(checkpoint.path):
            continue
        if not (Path(checkpoint.path) / "config.json").is_file():
            moved.missing.append(checkpoint.model)
            continue
        told(f"checkpoint {checkpoint.model}")
        place = keep(checkpoint_name(checkpoint.job_id, checkpoint.step), Path(checkpoint.path))
        same = Checkpoint.id == checkpoint.id, Checkpoint.path == checkpoint.path
        with write_session() as session:
            session.execute(update(Checkpoint).where(*same).values(path=place))
        moved.checkpoints += 1
    _move_archives(moved, told)
    for job in _rows(Job, *unfinished()):
        run_dir = get_settings().runs_dir / job.id
        if steps := steps_in(run_dir / "state"):
            told(f"state of {job.id} after step {steps[-1]}")
            send_state(job.id, steps[-1], link_state(run_dir, steps[-1]))
            moved.states += 1
    for table in (Job, Estimate):
        for row in _rows(table):
            _move_spec(table, row.id, row.run_spec)
    return moved


def _move_archives(moved: Moved, told: Callable[[str], None]) -> None:
    """Their rows name no place: a host that has the files reads them, another one asks the store."""
    store = remote()
    assert store is not None
    for job in _rows(Job, exists().where(RolloutArchive.job_id == Job.id)):
        parts = select(RolloutArchive).where(RolloutArchive.job_id == job.id).order_by(RolloutArchive.number)
        with read_session() as session:
            found = session.scalars(parts).all()
        for part in found:
            reference = archive_reference(job.id, part.number, part.digest)
            here = archive_here(job.id, part.number, part.digest)
            if here.is_dir():
                told(f"rollouts of {job.id}, steps {part.first_step} to {part.last_step}")
                keep(reference.name, here)
                moved.rollout_archives += 1
            elif not store.has(reference.tree_path):
                moved.missing.append(f"{job.id}, rollouts of steps {part.first_step} to {part.last_step}")


def _rows(table: type[Row], *having: Any) -> Iterator[Row]:
    """All rows, some at a time, by their ids."""
    after = ""
    while True:
        query = select(table).where(table.id > after, *having).order_by(table.id).limit(_ROWS)
        with read_session() as session:
            rows: Sequence[Row] = session.scalars(query).all()
        yield from rows
        if len(rows) < _ROWS:
            return
        after = rows[-1].id


def _move_spec(table: type[Job] | type[Estimate], row_id: str, spec: JsonObject) -> None:
    """Have a specification name files, base models and checkpoints where all hosts find them."""
    changed = with_places(spec, lambda place: _place(Path(place)) or place)
    if changed != spec:
        with write_session() as session:
            session.execute(update(table).where(table.id == row_id).values(run_spec=changed))


def _place(path: Path) -> str | None:
    """Where a file, base model or checkpoint of the data directory is for all hosts."""
    settings = get_settings()
    if path.is_relative_to(settings.runs_dir):
        match path.relative_to(settings.runs_dir).parts:
            case (job_id, "checkpoints", name):
                return _checkpoint_place(job_id, name)
            case _:
                return None
    if path.parent == settings.files_dir:
        with read_session() as session:
            file = session.get(File, path.name)
        return None if file is None else place_of(file)
    if path.is_relative_to(settings.models_dir):
        return base_place(path.relative_to(settings.models_dir).as_posix())
    return None


def _checkpoint_place(job_id: str, name: str) -> str | None:
    """Where the checkpoint ``step-N`` of a job is in the store, if it is."""
    step = name.removeprefix("step-")
    if not step.isdecimal():
        return None
    query = select(Checkpoint.path).where(Checkpoint.job_id == job_id, Checkpoint.step == int(step))
    with read_session() as session:
        place = session.scalar(query)
    return place if place is not None and is_stored(place) else None
