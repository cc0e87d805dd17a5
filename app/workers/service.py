"""Which workers there are, what they do, and what waits for them."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.audit import Change, record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.fleet import Block, block, blocks, keepers, least, waits_for_cluster, waits_for_gpus
from app.core.job_status import HELD
from app.core.live_workers import lacking, status_of
from app.core.paging import unknown_cursor
from app.core.store.artefacts import base_name
from app.core.tables import Checkpoint, InferenceWorker, Job, TrainingWorker
from app.jobs.order import any_fits, first_due, own_due, waiting_by_project
from app.jobs.repository import queue_positions
from app.keys.repository import Caller
from app.workers.schemas import WaitsFor

_HELD = [status.value for status in HELD]
_NEXT = 20
_OF_JOB = re.compile(r"runs/([^/]+)/checkpoints/")
View = dict[str, object]


@dataclass(frozen=True)
class Held:
    """A job that a worker has."""

    id: str
    project_id: str
    owner: str | None
    gpus: int


def list_workers(caller: Caller, *, after: str | None, limit: int) -> list[View]:
    """Up to ``limit`` + 1 workers, the newest first."""
    with read_session() as session:
        views = _views(session, caller)
    if after is None:
        return views[: limit + 1]
    places = [view["id"] for view in views]
    if after not in places:
        raise unknown_cursor(after)
    return views[places.index(after) + 1 :][: limit + 1]


def get_worker(caller: Caller, worker_id: str) -> View:
    """One worker; raises NotFound."""
    with read_session() as session:
        found = next((view for view in _views(session, caller) if view["id"] == worker_id), None)
    if found is None:
        raise NotFound(f"No such worker: '{worker_id}'.", param="worker_id")
    return found


def set_draining(caller: Caller, worker_id: str, draining: bool) -> View:
    """Have a training worker take no more jobs, or take some again; raises NotFound and BadRequest."""
    if get_worker(caller, worker_id)["type"] != "training":
        raise BadRequest(
            f"Invalid value for 'worker_id': '{worker_id}' serves models and takes no jobs. Give a worker of "
            "type 'training'.",
            param="worker_id",
        )
    with write_session() as session:
        row = session.get(TrainingWorker, worker_id)
        if row is not None:
            row.draining = draining
            change: Change = "worker.drained" if draining else "worker.undrained"
            record(session, change, worker_id, caller.project_id)
    return get_worker(caller, worker_id)


def queue(caller: Caller) -> View:
    """The queue object."""
    now = time.time()
    with read_session() as session:
        rows = session.execute(waiting_by_project(now)).all()
        held = _held(session)
        fleet = blocks(session)
        waiting = sum(row.waiting for row in rows)
        open_blocks = [one for one in fleet if one.takes_jobs]
        slots = sum(one.worker.slots for one in open_blocks)
        free = sum(one.free_slots for one in open_blocks)
        largest = max((one.free for one in open_blocks), default=0)
        waits_for = _waits_for(waiting, sum(row.later for row in rows), fleet)
        message = _message(waits_for, slots)
        kept = keepers(session)
        for_any = [one for one in open_blocks if one.worker.id not in kept and one.free]
        room = max((one.free for one in for_any), default=0)
        if waits_for == "pickup" and not any_fits(session, now, least(for_any), room):
            waits_for, message = _of_first(session, now, open_blocks)
        upcoming = _next(session, caller, now)
    running = Counter(one.project_id for one in held)
    found = {row.project_id: row for row in rows}
    seen = sorted(found.keys() | running.keys()) if caller.operator else [caller.project_id]
    return {
        "object": "queue",
        "waiting": waiting,
        "running": len(held),
        "workers": len(open_blocks),
        "draining": len(fleet) - len(open_blocks),
        "slots": slots,
        "free_slots": free,
        "largest_free_block": largest,
        "waits_for": waits_for,
        "message": message,
        "projects": [
            {
                "project_id": project_id,
                "waiting": row.waiting if (row := found.get(project_id)) else 0,
                "later": row.later if row else 0,
                "running": running[project_id],
                "oldest_at": int(row.oldest) if row and row.oldest is not None else None,
            }
            for project_id in seen
        ],
        "next": upcoming,
    }


def _waits_for(waiting: int, later: int, fleet: Sequence[Block]) -> WaitsFor | None:
    if not waiting:
        return "time" if later else None
    free = any(one.free_slots for one in fleet if one.takes_jobs)
    return lacking([one.worker for one in fleet]) or ("pickup" if free else "slot")


def _of_first(session: Session, now: float, fleet: Sequence[Block]) -> tuple[WaitsFor, str]:
    """What to say where slots are free, but for no job that waits."""
    postgresql = session.get_bind().dialect.name == "postgresql"
    first = session.scalar(first_due(now, heads=1, postgresql=postgresql).limit(1))
    gpus = session.scalar(select(Job.least_gpus).where(Job.id == first))
    if gpus == 0:
        return "cluster", waits_for_cluster(fleet)
    return "gpus", waits_for_gpus("The next job", gpus or 1, fleet)


def _message(waits_for: WaitsFor | None, slots: int) -> str:
    """Of all but ``gpus`` and ``cluster``, which :func:`_of_first` tells."""
    match waits_for:
        case "worker":
            return "No worker is connected: jobs wait until one is."
        case "undrain":
            return "All workers are draining: jobs wait until one is undrained or another starts."
        case "slot":
            one = "The slot is taken" if slots == 1 else f"All {slots} slots are taken"
            return f"{one}: the next job starts when a running one ends."
        case "pickup":
            return "A slot is free: a worker takes the next job within moments."
        case "time":
            return "The waiting jobs will be retried later."
        case None | "gpus" | "cluster":
            return "No job waits."


def _next(session: Session, caller: Caller, now: float) -> list[View]:
    if caller.operator:
        postgresql = session.get_bind().dialect.name == "postgresql"
        ids = session.scalars(first_due(now, heads=_NEXT, postgresql=postgresql).limit(_NEXT)).all()
        found = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(ids)))}
        jobs = [found[job_id] for job_id in ids if job_id in found]
        places = {job_id: place for place, job_id in enumerate(ids, 1)}
    else:
        jobs = list(session.scalars(own_due(caller.project_id, now).limit(_NEXT)))
        places = queue_positions(session, jobs)
    return [
        {
            "id": job.id,
            "name": job.name,
            "project_id": job.project_id,
            "gpus": job.least_gpus,
            "queue_position": places[job.id],
            "created_at": int(job.created_at),
        }
        for job in jobs
        if job.id in places
    ]


def _held(session: Session) -> list[Held]:
    rows = session.execute(
        select(Job.id, Job.project_id, Job.lease_owner, Job.held_gpus).where(Job.status.in_(_HELD))
    )
    return [Held(*row) for row in rows]


def _views(session: Session, caller: Caller) -> list[View]:
    held: dict[str | None, list[Held]] = defaultdict(list)
    for one in _held(session):
        held[one.owner].append(one)
    rows = [*session.scalars(select(TrainingWorker)), *session.scalars(select(InferenceWorker))]
    rows.sort(key=lambda row: (-int(row.started_at), row.id))
    names = _names(session, [row for row in rows if isinstance(row, InferenceWorker)], caller)
    return [
        _training_view(row, held[row.id], caller)
        if isinstance(row, TrainingWorker)
        else _inference_view(row, names)
        for row in rows
    ]


def _names(session: Session, rows: Sequence[InferenceWorker], caller: Caller) -> dict[str, str]:
    """Names of the loaded models that the ``caller`` may know of, by their places."""
    places = {place for row in rows for place in row.loaded}
    # By its job, which a place names, and which there is an index of.
    jobs = {found[1] for place in places if (found := _OF_JOB.search(place))}
    query = select(Checkpoint.path, Checkpoint.model).where(
        Checkpoint.job_id.in_(jobs), Checkpoint.path.in_(places)
    )
    if not caller.operator:
        query = query.where(Checkpoint.project_id == caller.project_id)
    base = {place: name for place in places if (name := base_name(place)) is not None}
    return base | dict(session.execute(query).all())


def _training_view(row: TrainingWorker, own: Sequence[Held], caller: Caller) -> View:
    jobs = [one.id for one in own if caller.operator or one.project_id == caller.project_id]
    return {
        **_common(row, "training"),
        "slots": row.slots,
        "slots_taken": row.slots - block(row, [one.gpus for one in own]).free_slots,
        "running": len(own),
        "jobs": sorted(jobs),
        "engine": None,
        "models_loaded": None,
        "models": [],
        "ray": row.ray,
        "memory": row.memory,
    }


def _inference_view(row: InferenceWorker, names: dict[str, str]) -> View:
    return {
        **_common(row, "inference"),
        "slots": None,
        "slots_taken": None,
        "running": row.active,
        "jobs": [],
        "engine": row.engine,
        "models_loaded": len(row.loaded),
        "models": sorted(names[place] for place in row.loaded if place in names),
        "ray": None,
        "memory": None,
    }


def _common(row: TrainingWorker | InferenceWorker, kind: str) -> View:
    return {
        "id": row.id,
        "object": "worker",
        "type": kind,
        "status": status_of(row),
        "host": row.host or None,
        "version": row.version or None,
        "started_at": int(row.started_at),
        "heartbeat_at": int(row.heartbeat_at),
        "gpus": row.gpus,
        "cache": row.cache,
    }
