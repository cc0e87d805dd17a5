"""Checks of reasoning-gym tasks and their parameters, before a job is taken in."""

from app.core.errors import BadRequest
from app.core.strict_json import JsonObject
from app.core.validation import abbreviated, one_of
from trainer.sandbox.bubblewrap import NoIsolation, refusal
from trainer.sandbox.tasks import OURS, tasks


def check_task(task: str, parameters: dict[str, object], *, param: str) -> None:
    """Raise BadRequest unless ``task`` exists and its configuration takes ``parameters``."""
    try:
        problem = tasks().problem_of(task, parameters)
    except NoIsolation as error:
        raise BadRequest(
            f"Invalid value for '{param}.task': a reasoning-gym task {refusal(error)}.", param=f"{param}.task"
        ) from None
    match problem.get("where"):
        case "task":
            raise BadRequest(
                f"Invalid value for '{param}.task': {abbreviated(task)} is not a reasoning-gym task. "
                f"Tasks, those with similar names first: {one_of(problem['accepted'], task)}.",
                param=f"{param}.task",
            )
        case "parameter":
            raise _unknown(task, problem, param)
        case "parameters":
            raise BadRequest(
                f"Invalid '{param}.parameters' for the task {task}: {problem['message']}. "
                f"Given: {abbreviated(parameters)}.",
                param=f"{param}.parameters",
            )


def _unknown(task: str, problem: JsonObject, param: str) -> BadRequest:
    name, accepts = problem["name"], f"The task {task} accepts: "
    accepts += f"{one_of(problem['accepted'], problem['name'], limit=40)}."
    if problem["file"]:
        return BadRequest(
            f"Invalid '{param}.parameters.{name}': it names a file, but tasks may not read files on this "
            f"machine. {accepts}",
            param=f"{param}.parameters.{name}",
        )
    hint = f" Give it as '{param}.{name}'." if name in OURS and param.endswith("environment") else ""
    return BadRequest(
        f"Unknown parameter: '{param}.parameters.{name}'.{hint} {accepts}",
        param=f"{param}.parameters.{name}",
        code="unknown_parameter",
    )
