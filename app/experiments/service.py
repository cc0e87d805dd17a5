"""What can be done with experiments: create, look at, extend, cancel."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict, NotFound
from app.core.idempotency import check_key, made_before, request_digest
from app.core.ids import new_experiment_id
from app.core.job_status import TERMINAL
from app.core.paging import unknown_cursor
from app.core.tables import Experiment, ExperimentRun
from app.experiments import repository
from app.experiments.expansion import cancel_unless_ended, run_key
from app.experiments.requests import job_request, misfit
from app.experiments.schemas import (
    MAX_CHECKS,
    MAX_RUNS,
    Arm,
    CreateExperiment,
    Definition,
    ExtendExperiment,
    Task,
)
from app.files import repository as files
from app.jobs.creation import check_job
from trainer.graders.answers import REMEDY
from trainer.statistics.item_scores import counts_answers

_ENDED = {status.value for status in TERMINAL}


def create(project_id: str, request: CreateExperiment, idempotency_key: str | None) -> dict[str, Any]:
    """Check every arm on every task, then take the experiment in; its runs are started afterwards.

    The same key with the same request gives the experiment that the first one made.
    """
    check_key(idempotency_key)
    digest = request_digest(request)
    if earlier := _earlier(project_id, idempotency_key, digest):
        return earlier
    experiment_id = new_experiment_id()
    _check(project_id, request, experiment_id, request.arms)
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
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(project_id, idempotency_key, digest):
            return earlier
        raise
    return retrieve(project_id, experiment_id)


def retrieve(project_id: str, experiment_id: str) -> dict[str, Any]:
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
    with read_session() as session:
        experiment = found(session, project_id, experiment_id)
        before = Definition.model_validate(experiment.definition)
    if (checks := (len(before.arms) + len(request.arms)) * len(before.tasks)) > MAX_CHECKS:
        raise BadRequest(f"That would make {checks} kinds of job, more than {MAX_CHECKS}.", param="arms")
    _check(project_id, before, experiment_id, _new_arms(before, request))
    with write_session() as session:
        experiment = found(session, project_id, experiment_id, lock=True)
        if experiment.cancelled_at is not None:
            raise _cancelled(experiment, "extended")
        old = Definition.model_validate(experiment.definition)
        arms = _new_arms(old, request)
        seeds = [seed for seed in dict.fromkeys(request.seeds) if seed not in old.seeds]
        new = old.model_copy(update={"arms": [*old.arms, *arms], "seeds": [*old.seeds, *seeds]})
        if seeds and _results_can_be_seen(session, experiment_id, old):
            new = new.model_copy(update={"seeds_before": [*old.seeds_before, len(old.seeds)]})
        if (runs := len(new.arms) * len(new.tasks) * len(new.seeds)) > MAX_RUNS:
            raise BadRequest(f"That would make {runs} runs, more than {MAX_RUNS}.", param="seeds")
        experiment.definition = new.model_dump(mode="json")
        experiment.has_unstarted_runs = True
        _add_runs(session, experiment_id, old, arms, old.seeds)
        _add_runs(session, experiment_id, old, new.arms, seeds)
    return retrieve(project_id, experiment_id)


def _results_can_be_seen(session: Session, experiment_id: str, definition: Definition) -> bool:
    """Of the seeds that no earlier addition has counted."""
    new = definition.seeds[max(definition.seeds_before, default=0) :]
    rows = repository.runs_of(session, experiment_id)
    return any(run.seed in new and job is not None and job.status in _ENDED for run, job in rows)


def cancel(project_id: str, experiment_id: str) -> dict[str, Any]:
    """Start no further run, and cancel the jobs that have not ended."""
    with write_session() as session:
        experiment = found(session, project_id, experiment_id, lock=True)
        if experiment.cancelled_at is None:
            experiment.cancelled_at = time.time()
        experiment.has_unstarted_runs = False
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


def _check(project_id: str, request: CreateExperiment, experiment_id: str, arms: Sequence[Arm]) -> None:
    """Everything that would make a run's job be refused is found now."""
    for task in request.tasks:
        _check_items(project_id, request, task)
        for arm in arms:
            job = job_request(request, experiment_id, arm, task, request.seeds[0])
            try:
                run_spec = check_job(project_id, job).run_spec
            except BadRequest as error:
                raise misfit(arm, task, error) from None
            if counts_answers(request.metric) and not run_spec.has_votes:
                raise BadRequest(
                    f"The metric {request.metric} counts different right answers, but the grader of task "
                    f"'{task.name}' does not say what a response answers: {REMEDY}, or give "
                    "evaluation.embedding_model.",
                    param="metric",
                )


def _check_items(project_id: str, request: CreateExperiment, task: Task) -> None:
    wanted = request.split.dev + request.split.test
    have: int | None = None
    if task.validation_environment is not None:
        have = task.validation_environment.size
    elif task.validation_file is not None:
        with read_session() as session:
            file = files.find(session, project_id, task.validation_file)
        have = None if file is None else file.rows  # a file that is not there is refused with the job
    elif task.environment is None:
        raise BadRequest(
            f"Task '{task.name}' has nothing to compare on: give it a 'validation_file' or a "
            "'validation_environment' whose items are not trained.",
            param="tasks",
            code="missing_required_parameter",
        )
    if have is not None and have < wanted:
        raise BadRequest(
            f"Task '{task.name}' has {have} validation items, but the split takes {request.split.dev} for "
            f"dev and {request.split.test} for test: give more items, or a smaller split.",
            param="split",
        )


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


def _new_arms(old: CreateExperiment, request: ExtendExperiment) -> list[Arm]:
    known = {one.name: one for one in old.arms}
    new: dict[str, Arm] = {}
    for arm in request.arms:
        there = known.get(arm.name) or new.get(arm.name)
        if there is None:
            new[arm.name] = arm
        elif there != arm:
            raise Conflict(
                f"The experiment has an arm '{arm.name}' that is defined otherwise: give the new one another "
                "name.",
                param="arms",
            )
    return list(new.values())


def _views(session: Session, rows: Sequence[Experiment]) -> list[dict[str, object]]:
    now = time.time()
    counted = repository.counts(session, [one.id for one in rows])
    return [_view(session, one, counted[one.id], now) for one in rows]


def _view(session: Session, row: Experiment, counted: dict[str | None, int], now: float) -> dict[str, Any]:
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
        f"Experiment '{experiment.id}' has been cancelled, so it cannot be {action}: make another one.",
        param="experiment_id",
        code="invalid_experiment_status",
    )


def _earlier(project_id: str, key: str | None, digest: str) -> dict[str, object] | None:
    with read_session() as session:
        experiment = made_before(session, Experiment, project_id, key, digest)
        identifier = None if experiment is None else experiment.id
    return None if identifier is None else retrieve(project_id, identifier)
