"""Everything that would make a run's job be refused, found before the experiment is taken in."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.db import read_session
from app.core.errors import BadRequest
from app.experiments.extension import Extension
from app.experiments.requests import job_request, misfit
from app.experiments.schemas import Arm, CreateExperiment, Task
from app.files import repository as files
from app.jobs.creation import check_job
from app.jobs.schemas import CreateJob
from trainer.graders.answers import REMEDY
from trainer.spec.run import RunSpec
from trainer.statistics.item_scores import counts_answers


@dataclass(frozen=True)
class Kind:
    """An arm on a task: jobs that differ in the seed alone. ``request`` makes the one of the first seed."""

    arm: Arm
    task: Task
    request: CreateJob
    run_spec: RunSpec


def check(project_id: str, request: CreateExperiment, experiment_id: str) -> list[Kind]:
    """Every arm on every task. Raises BadRequest whose ``param`` is a field of the experiment's request."""
    return _check(project_id, request, experiment_id, request.arms)


def check_added(project_id: str, experiment_id: str, added: Extension) -> list[Kind]:
    """Every arm that gets runs, on every task. The ``param`` of an error is a field of the extension."""
    arms = added.after.arms if added.seeds else added.arms
    kinds = []
    for arm in arms:
        try:
            kinds += _check(project_id, added.after, experiment_id, [arm])
        except BadRequest as error:
            given = [one.name for one in added.request.arms]
            param = f"arms.{given.index(arm.name)}" if arm.name in given else "seeds"
            raise BadRequest(error.message, param=param, code=error.code) from None
    return kinds


def _check(project_id: str, request: CreateExperiment, experiment_id: str, arms: Sequence[Arm]) -> list[Kind]:
    kinds = []
    for number, task in enumerate(request.tasks):
        _check_items(project_id, request, task, f"tasks.{number}")
        for arm in arms:
            job = job_request(request, experiment_id, arm, task, request.seeds[0])
            try:
                run_spec = check_job(project_id, job).run_spec
            except BadRequest as error:
                raise misfit(request, arm, task, error) from None
            if counts_answers(request.metric) and not run_spec.has_votes:
                raise BadRequest(
                    f"The metric {request.metric} counts different right answers, but the grader of task "
                    f"'{task.name}' does not extract answers: {REMEDY}, or give "
                    "evaluation.embedding_model.",
                    param="metric",
                )
            kinds.append(Kind(arm, task, job, run_spec))
    return kinds


def _check_items(project_id: str, request: CreateExperiment, task: Task, param: str) -> None:
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
            f"Task '{task.name}' has no validation data: give it a 'validation_file' or a "
            "'validation_environment' whose items are not trained on.",
            param=f"{param}.validation_file",
            code="missing_required_parameter",
        )
    if have is not None and have < wanted:
        raise BadRequest(
            f"Task '{task.name}' has {have} validation items, but the split takes {request.split.dev} for "
            f"dev and {request.split.test} for test: give more items, or a smaller split.",
            param="split",
        )
