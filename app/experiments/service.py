"""What can be done with experiments: create, look at, extend, cancel; and what would come of the first."""

import time
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.idempotency import check_key, made_before, request_digest
from app.core.ids import new_experiment_id
from app.core.job_status import TERMINAL
from app.core.paging import unknown_cursor
from app.core.strict_json import JsonObject
from app.core.tables import Experiment, ExperimentRun
from app.experiments import repository
from app.experiments.checks import Kind, check, check_added
from app.experiments.expansion import cancel_unless_ended, run_key
from app.experiments.extension import Extension, extension
from app.experiments.pace import ENDS, Pace
from app.experiments.schemas import Arm, CreateExperiment, Definition, ExtendExperiment

_ENDED = {status.value for status in TERMINAL}


def create(project_id: str, request: CreateExperiment, idempotency_key: str | None) -> JsonObject:
    """Check every arm on every task, then take the experiment in; its runs are started afterwards.

    The same key with the same request gives the experiment that the first one made.
    """
    check_key(idempotency_key)
    digest = request_digest(request)
    if earlier := _earlier(project_id, idempotency_key, digest):
        return earlier
    experiment_id = new_experiment_id()
    check(project_id, request, experiment_id)
    experiment = Experiment(
        id=experiment_id,
        project_id=project_id,
        idempotency_key=idempotency_key,
        request_sha256=digest,
        created_at=time.time(),
        name=request.name,
        definition=Definition(**request.model_dump()).model_dump(mode="json"),
        user_metadata=request.metadata,
        cancelled_at=None,
        has_unstarted_runs=True,
    )
    try:
        with write_session() as session:
            session.add(experiment)
            session.flush()
            _add_runs(session, experiment_id, request, request.arms, request.seeds)
            record(session, "experiment.created", experiment_id, project_id, name=request.name)
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(project_id, idempotency_key, digest):
            return earlier
        raise
    return retrieve(project_id, experiment_id)


def validate(project_id: str, request: CreateExperiment) -> JsonObject:
    """All that :func:`create` asks of a request, and what it would make; nothing is created."""
    kinds = check(project_id, request, "exp_")
    return _validation(project_id, [(kind, len(request.seeds)) for kind in kinds], [])


def retrieve(project_id: str, experiment_id: str) -> JsonObject:
    """The experiment with its progress and its runs; raises NotFound."""
    with read_session() as session:
        experiment = found(session, project_id, experiment_id)
        view = _views(session, [experiment])[0]
        rows = repository.runs_of(session, experiment_id)
        return view | {
            "runs": [
                {
                    "arm": run.arm,
                    "task": run.task,
                    "seed": run.seed,
                    "job_id": run.job_id,
                    "status": "refused" if run.error else "waiting" if job is None else job.status,
                    "progress": None if job is None else {"step": job.step, "total_steps": job.total_steps},
                    "error": run.error or (None if job is None else job.error),
                }
                for run, job in rows
            ]
        }


def listing(project_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 experiments without their runs, newest first."""
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := repository.find(session, project_id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.listing(session, project_id, after=cursor, limit=limit + 1)
        return _views(session, rows)


def extend(project_id: str, experiment_id: str, request: ExtendExperiment) -> dict[str, object]:
    """Add seeds, arms or both; the runs that are there stay as they are."""
    _planned(project_id, experiment_id, request)
    with write_session() as session:
        experiment = found(session, project_id, experiment_id, lock=True)
        planned = _extension(session, experiment, request)
        experiment.definition = planned.after.model_dump(mode="json")
        experiment.has_unstarted_runs = True
        _add_runs(session, experiment_id, planned.before, planned.arms, planned.before.seeds)
        _add_runs(session, experiment_id, planned.before, planned.after.arms, planned.seeds)
        arms = [one.name for one in planned.arms]
        added = {"arms": arms, "seeds": list(planned.seeds)}
        record(session, "experiment.extended", experiment_id, project_id, **added)
    return retrieve(project_id, experiment_id)


def validate_extension(project_id: str, experiment_id: str, request: ExtendExperiment) -> JsonObject:
    """All that :func:`extend` asks of a request, and what it would add; nothing is changed."""
    planned, kinds = _planned(project_id, experiment_id, request)
    runs = [(kind, len(planned.seeds_of(kind.arm))) for kind in kinds]
    return _validation(project_id, runs, planned.notes)


def _planned(project_id: str, experiment_id: str, request: ExtendExperiment) -> tuple[Extension, list[Kind]]:
    """What would be added, with the jobs of its runs checked; no transaction is open meanwhile."""
    with read_session() as session:
        planned = _extension(session, found(session, project_id, experiment_id), request)
    return planned, check_added(project_id, experiment_id, planned)


def _extension(session: Session, experiment: Experiment, request: ExtendExperiment) -> Extension:
    if experiment.cancelled_at is not None:
        raise _cancelled(experiment, "extended")
    before = Definition.model_validate(experiment.definition)
    return extension(before, request, seen=_results_can_be_seen(session, experiment.id, before))


def _results_can_be_seen(session: Session, experiment_id: str, definition: Definition) -> bool:
    """Of the seeds that no earlier addition has counted."""
    new = definition.seeds[max(definition.seeds_before, default=0) :]
    rows = repository.runs_of(session, experiment_id)
    return any(run.seed in new and job is not None and job.status in _ENDED for run, job in rows)


def cancel(project_id: str, experiment_id: str) -> JsonObject:
    """Start no further run, and cancel the jobs that have not ended."""
    with write_session() as session:
        experiment = found(session, project_id, experiment_id, lock=True)
        if experiment.cancelled_at is None:
            experiment.cancelled_at = time.time()
        experiment.has_unstarted_runs = False
        record(session, "experiment.cancelled", experiment_id, project_id)
    with read_session() as session:
        rows = repository.runs_of(session, experiment_id)
        unfinished = [job.id for _, job in rows if job is not None and job.status not in _ENDED]
        # Created by a process that was killed before it could write the job beside the run.
        keys = [run_key(experiment_id, run.arm, run.task, run.seed) for run, job in rows if job is None]
        unfinished += repository.jobs_with_keys(session, project_id, keys)
    for job_id in unfinished:
        cancel_unless_ended(project_id, job_id)
    return retrieve(project_id, experiment_id)


def found(session: Session, project_id: str, experiment_id: str, *, lock: bool = False) -> Experiment:
    """The experiment's row; raises NotFound."""
    experiment = repository.find(session, project_id, experiment_id, lock=lock)
    if experiment is None:
        raise NotFound(f"No such experiment: '{experiment_id}'.", param="experiment_id")
    return experiment


def _add_runs(
    session: Session, experiment_id: str, request: CreateExperiment, arms: Sequence[Arm], seeds: Sequence[int]
) -> None:
    """All arms of a seed before the next seed: whatever stops early has complete pairs."""
    place = repository.last_position(session, experiment_id)
    for seed in seeds:
        for task in request.tasks:
            for arm in arms:
                place += 1
                session.add(
                    ExperimentRun(
                        experiment_id=experiment_id,
                        arm=arm.name,
                        task=task.name,
                        seed=seed,
                        position=place,
                        job_id=None,
                        error=None,
                    )
                )
    session.flush()


def _validation(project_id: str, kinds: Sequence[tuple[Kind, int]], notes: Sequence[str]) -> JsonObject:
    """What runs would be made: kinds of job, and how many of each."""
    with read_session() as session:
        pace = Pace(session, project_id)
    times = [pace.of(kind.run_spec) for kind, _ in kinds]
    known = [(time, count) for time, (_, count) in zip(times, kinds, strict=True) if time is not None]
    whole = None
    if len(known) == len(kinds):
        whole = {end: round(sum(count * time.seconds[end] for time, count in known), 3) for end in ENDS}
    return {
        "object": "experiment.validation",
        "valid": True,
        "runs": sum(count for _, count in kinds),
        "total_steps": sum(count * kind.run_spec.total_steps for kind, count in kinds),
        "total_seconds": whole,
        "measured_on": list(dict.fromkeys(job for time, _ in known for job in time.jobs)),
        "kinds": [
            {
                "arm": kind.arm.name,
                "task": kind.task.name,
                "runs": count,
                "total_steps": kind.run_spec.total_steps,
                "seconds": None if time is None else time.seconds,
                "job": kind.request.model_dump(mode="json", exclude_unset=True, exclude={"metadata"}),
            }
            for time, (kind, count) in zip(times, kinds, strict=True)
        ],
        "notes": list(notes),
    }


def _views(session: Session, rows: Sequence[Experiment]) -> list[dict[str, object]]:
    now = time.time()
    counted = repository.counts(session, [one.id for one in rows])
    return [_view(session, one, counted[one.id], now) for one in rows]


def _view(session: Session, row: Experiment, counted: dict[str | None, int], now: float) -> JsonObject:
    ended = sum(counted.get(status, 0) for status in (*_ENDED, "refused"))
    total = sum(counted.values())
    waiting = counted.get(None, 0)
    if row.cancelled_at is not None:
        status = "cancelled"
    elif ended == total:
        status = "completed"
    elif ended + waiting == total and _out_of_budget(session, row, now):
        status = "out_of_budget"
    else:
        status = "running"
    named = {name or "waiting": count for name, count in counted.items()}
    return {
        "id": row.id,
        "object": "experiment",
        "created_at": int(row.created_at),
        "name": row.name,
        "status": status,
        "progress": {"runs": total, "ended": ended, "by_status": named},
        "definition": row.definition,
        "metadata": row.user_metadata,
    }


def _out_of_budget(session: Session, row: Experiment, now: float) -> bool:
    hours = row.definition["budget"]["run_hours"]
    return hours is not None and repository.seconds_used(session, row.id, now) >= hours * 3600


def _cancelled(experiment: Experiment, action: str) -> BadRequest:
    return BadRequest(
        f"Experiment '{experiment.id}' has been cancelled, so it cannot be {action}: create a new one.",
        param="experiment_id",
        code="invalid_experiment_status",
    )


def _earlier(project_id: str, key: str | None, digest: str) -> dict[str, object] | None:
    with read_session() as session:
        experiment = made_before(session, Experiment, project_id, key, digest)
        identifier = None if experiment is None else experiment.id
    return None if identifier is None else retrieve(project_id, identifier)
