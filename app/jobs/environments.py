"""Checks of reasoning-gym tasks and their parameters, before a job is taken in.

reasoning-gym is imported on first use: it takes two seconds (and no torch).
"""

import dataclasses
from typing import Any

from app.errors import BadRequest
from app.validation import abbreviated, one_of

# The data block has fields of its own for these.
_OURS = ("seed", "size")


def check_task(task: str, parameters: dict[str, Any], *, param: str) -> None:
    """Raise BadRequest unless ``task`` exists and its configuration takes ``parameters``."""
    # The package first: its registry is there, half filled, while another request still imports the rest.
    import reasoning_gym  # noqa: F401
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise BadRequest(
            f"Invalid value for '{param}.task': {abbreviated(task)} is no reasoning-gym task. "
            f"Tasks with similar names first: {one_of(sorted(DATASETS), task)}.",
            param=f"{param}.task",
        )
    configuration = DATASETS[task][1]
    accepted = [field.name for field in dataclasses.fields(configuration) if field.name not in _OURS]
    for name in parameters:
        if name not in accepted:
            hint = f" Give it as '{param}.{name}'." if name in _OURS and param.endswith("environment") else ""
            raise BadRequest(
                f"Unknown parameter: '{param}.parameters.{name}'.{hint} "
                f"The task {task} accepts: {one_of(accepted, name, limit=40)}.",
                param=f"{param}.parameters.{name}",
                code="unknown_parameter",
            )
    try:
        configured = configuration(**parameters)
        if hasattr(configured, "validate"):
            configured.validate()
    except Exception as error:  # the configurations assert, compare and raise as they like
        reason = str(error) or type(error).__name__
        raise BadRequest(
            f"Invalid '{param}.parameters' for the task {task}: {reason}. Given: {abbreviated(parameters)}.",
            param=f"{param}.parameters",
        ) from None
