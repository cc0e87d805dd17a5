"""Can the grader read what its templates name, in every row? Asked before a job is taken in."""

from collections.abc import Iterator

from app.core.errors import BadRequest
from app.core.settings import get_settings
from app.core.tables import File
from app.core.validation import one_of
from app.files.jsonl import first_row_without
from app.files.storage import local_path
from trainer.graders.spec import EnvironmentGrader, Grader, MultiGrader, template_variables
from trainer.graders.templates import parse_name
from trainer.spec.data import EnvironmentData

GRADER_PARAM = "method.reinforcement.grader"
# What an item of a reasoning-gym task has; below metadata it is the task's own affair.
_ENVIRONMENT_FIELDS = ("question", "answer", "metadata", "messages")


def check_item_fields(grader: Grader, data: File | EnvironmentData, *, param: str) -> None:
    """Raise BadRequest naming a variable that some row of ``data`` has no value for."""
    for variable in sorted(template_variables(grader)):
        root, path = parse_name(variable)
        if root != "item" or not path or path == ("messages",):  # which every row has
            continue
        name = variable.removeprefix("item").removeprefix(".")
        if isinstance(data, EnvironmentData):
            _check_environment_field(name, param)
        else:
            _check_file_field(data, name, param)
    if not isinstance(data, EnvironmentData):
        return
    for place, one in _environment_graders(grader):
        if one.task != data.task:
            raise BadRequest(
                f"Invalid value for '{place}.task': '{one.task}' cannot score the items of '{param}', "
                f"which come from the task '{data.task}'. Give '{data.task}'.",
                param=f"{place}.task",
            )


def _environment_graders(grader: Grader) -> Iterator[tuple[str, EnvironmentGrader]]:
    if isinstance(grader, EnvironmentGrader):
        yield GRADER_PARAM, grader
    elif isinstance(grader, MultiGrader):
        for name, one in grader.named.items():
            if isinstance(one, EnvironmentGrader):
                yield f"{GRADER_PARAM}.graders.{name}", one


def _check_file_field(file: File, name: str, param: str) -> None:
    """The index tells most; what it does not have is looked for in the file itself."""
    known = (file.fields or {}).get(name)
    if known is not None:
        line = known["first_missing"]
    else:
        line = first_row_without(local_path(file), name, get_settings().max_line_bytes)
    if line is None:
        return
    has = one_of([f"item.{field}" for field in file.fields or {}], f"item.{name}")
    raise BadRequest(
        f"The grader reads 'item.{name}', which line {line} of '{param}' ({file.id}) does not have. The "
        f"file has: {has}.",
        param=param,
        code="missing_grader_field",
    )


def _check_environment_field(name: str, param: str) -> None:
    _, (field, *rest) = parse_name(f"item.{name}")
    if field not in _ENVIRONMENT_FIELDS or (rest and field in ("question", "answer")):
        accepted = ", ".join(f"item.{field}" for field in _ENVIRONMENT_FIELDS)
        raise BadRequest(
            f"The grader reads 'item.{name}', which items of '{param}' do not have. They have: {accepted}.",
            param=GRADER_PARAM,
            code="missing_grader_field",
        )
