"""Starts an experiment's runs: each becomes a job, once, whoever does it and however often.

The job is created under an idempotency key that is the run's, and then written beside the run. Killed between
the two, the next pass gets the same job again. So any number of API processes and reconcilers may do this at
once, and a service that is restarted goes on.
"""

import hashlib
import json
import logging
import time
from dataclasses import dataclass

from sqlalchemy import select

from app.core.db import read_session, write_session
from app.core.errors import ApiError, BadRequest, Forbidden
from app.core.tables import Experiment, ExperimentRun
from app.experiments import repository
from app.experiments.requests import job_request
from app.experiments.schemas import Definition
from app.jobs import service as jobs
from app.jobs.creation import create_job

#: Runs that one pass starts of one experiment, and experiments that it looks at.
PASS_RUNS = 200
PASS_EXPERIMENTS = 50
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Due:
    """What a pass has to do for one experiment."""

    project_id: str
    definition: Definition
    runs: list[ExperimentRun]
    #: Whether there may be more runs, now or later.
    more: bool


def start_waiting_runs() -> int:
    """One pass over all experiments; how many runs were started."""
    with read_session() as session:
        ids = repository.unstarted(session, PASS_EXPERIMENTS)
    return sum(map(start_runs, ids))


def start_runs(experiment_id: str) -> int:
    """Start the experiment's next runs, as many as may run; how many."""
    due = _due(experiment_id)
    if due is None:
        return 0
    started = 0
    for run in due.runs:
        if not _start(experiment_id, due, run):
            return started  # not now: the next pass tries again
        started += 1
    if not due.more:
        _settle(experiment_id)
    return started


def run_key(experiment_id: str, arm: str, task: str, seed: int) -> str:
    """The idempotency key of a run's job."""
    told = hashlib.sha256(json.dumps([arm, task, seed]).encode()).hexdigest()
    return f"{experiment_id}/{told[:40]}"


def _due(experiment_id: str) -> _Due | None:
    with read_session() as session:
        experiment = session.get(Experiment, experiment_id)
        if experiment is None or not experiment.has_unstarted_runs or experiment.cancelled_at is not None:
            return None
        definition = Definition.model_validate(experiment.definition)
        room = PASS_RUNS
        if definition.max_parallel is not None:
            room = min(room, definition.max_parallel - repository.active_jobs(session, experiment_id))
        hours = definition.budget.run_hours
        if hours is not None and repository.seconds_used(session, experiment_id, time.time()) >= hours * 3600:
            room = 0
        waiting = list(repository.waiting_runs(session, experiment_id, max(room, 0) + 1))
        return _Due(experiment.project_id, definition, waiting[: max(room, 0)], len(waiting) > max(room, 0))


def _start(experiment_id: str, due: _Due, run: ExperimentRun) -> bool:
    """Whether the run has a job now, or has been refused one for good."""
    arms = {one.name: one for one in due.definition.arms}
    tasks = {one.name: one for one in due.definition.tasks}
    try:
        request = job_request(due.definition, experiment_id, arms[run.arm], tasks[run.task], run.seed)
        job = create_job(due.project_id, request, run_key(experiment_id, run.arm, run.task, run.seed))
    except ApiError as error:
        # A quota has room again when others have ended.
        if error.status >= 429 or isinstance(error, Forbidden):
            _log.info("%s: a run could not be started now: %s", experiment_id, error.message)
            return False
        with write_session() as session:
            told = {"code": error.code, "message": error.message, "param": error.param}
            repository.record_refusal(session, run, told)
        return True
    with write_session() as session:
        repository.record_job(session, run, str(job["id"]))
        cancelled = session.scalar(select(Experiment.cancelled_at).where(Experiment.id == experiment_id))
    if cancelled is not None:
        cancel_unless_ended(due.project_id, str(job["id"]))
    return True


def cancel_unless_ended(project_id: str, job_id: str) -> None:
    """Cancel a job; one that has ended stays as it is."""
    try:
        jobs.cancel(project_id, job_id)
    except BadRequest:
        _log.info("%s has ended before it could be cancelled", job_id)


def _settle(experiment_id: str) -> None:
    """Nothing is left to start, unless runs were added meanwhile."""
    with write_session() as session:
        experiment = session.get(Experiment, experiment_id, with_for_update=True)
        if experiment is not None and not repository.waiting_runs(session, experiment_id, 1):
            experiment.has_unstarted_runs = False
