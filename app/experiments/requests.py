"""The job that one run of an experiment is: the base's settings, the task's over them, then the arm's."""

import copy
from collections.abc import Mapping

from app.core.errors import BadRequest
from app.core.validation import validated
from app.experiments.schemas import Arm, CreateExperiment, Task
from app.jobs.schemas import CreateJob
from trainer.ablations import load_ablation
from trainer.errors import InvalidSpec

#: What a task and a job call by the same name.
_DATA = {"training_file", "environment", "validation_file", "validation_environment"}


def job_request(
    experiment: CreateExperiment, experiment_id: str, arm: Arm, task: Task, seed: int
) -> CreateJob:
    """The request that makes the run's job. Raises BadRequest that names the arm and the task."""
    try:
        return validated(CreateJob, _body(experiment, experiment_id, arm, task, seed))
    except BadRequest as error:
        raise misfit(experiment, arm, task, error) from None


def misfit(experiment: CreateExperiment, arm: Arm, task: Task, error: BadRequest) -> BadRequest:
    """What is wrong with a run's job, as an error of the experiment's request: at the field to change."""
    return BadRequest(
        f"Arm '{arm.name}' on task '{task.name}': {error.message}",
        param=error.param and _origin(experiment, arm, task, error.param),
        code=error.code,
    )


def _origin(experiment: CreateExperiment, arm: Arm, task: Task, param: str) -> str:
    """The field of the experiment that ``param`` of a run's job comes from."""
    of_arm = f"arms.{experiment.arms.index(arm)}"
    of_task = f"tasks.{experiment.tasks.index(task)}"
    first, _, rest = param.partition(".")
    if param == "arms":
        return of_arm
    if first in _DATA:
        return f"{of_task}.{param}"
    if first == "model":
        return param if task.model is None else f"{of_task}.{param}"
    if first != "method":
        return param
    setting = rest.removeprefix("reinforcement").removeprefix(".")
    if setting == "budget.steps":
        return setting
    if setting == "evaluation.max_items":
        return "split"
    for place, settings in ((of_arm, arm.reinforcement), (of_task, task.reinforcement)):
        if _gives(settings, setting):
            return f"{place}.reinforcement.{setting}"
    if setting.partition(".")[0] == "algorithm" and (arm.algorithm or arm.ablation):
        return f"{of_arm}.{setting}" if arm.algorithm else of_arm
    return f"reinforcement.{setting}".removesuffix(".")


def _gives(settings: object, setting: str) -> bool:
    """Whether ``settings`` have this one; a grader is given as a whole."""
    key, _, rest = setting.partition(".")
    if not isinstance(settings, Mapping) or key not in settings:
        return False
    return not rest or key == "grader" or _gives(settings[key], rest)


def _body(
    experiment: CreateExperiment, experiment_id: str, arm: Arm, task: Task, seed: int
) -> dict[str, object]:
    data = task.model_dump(mode="json", include=_DATA, exclude_none=True)
    labels = {"experiment": experiment_id, "arm": arm.name, "task": task.name}
    return {
        "model": task.model or experiment.model,
        "method": {"type": "reinforcement", "reinforcement": _reinforcement(experiment, arm, task)},
        "seed": seed,
        "metadata": {**(experiment.metadata or {}), **labels},
        **data,
    }


def _reinforcement(experiment: CreateExperiment, arm: Arm, task: Task) -> dict[str, object]:
    steps = experiment.budget.steps
    settings = laid_over(experiment.reinforcement, task.reinforcement)
    settings = laid_over(
        settings,
        {
            "budget": {"steps": steps},
            "evaluation": {"max_items": experiment.split.dev + experiment.split.test},
        },
    )
    if arm.ablation is not None:
        try:
            settings = load_ablation(arm.ablation, steps).reinforcement(settings)
        except InvalidSpec as error:
            raise BadRequest(f"{error}.", param="arms") from None
    elif arm.algorithm is not None:
        settings["algorithm"] = arm.algorithm
    return laid_over(settings, arm.reinforcement)


def laid_over(base: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """``base`` with ``settings`` in it, block by block; a grader or another type of algorithm replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in settings.items():
        old = merged.get(key)
        one_choice = key == "grader" or (
            key == "algorithm"
            and isinstance(value, dict)
            and isinstance(old, dict)
            and value.get("type", old.get("type")) != old.get("type")
        )
        if isinstance(old, dict) and isinstance(value, dict) and not one_choice:
            merged[key] = laid_over(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
