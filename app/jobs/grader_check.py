"""Can the grader read what its templates name, in every row? Asked before a job is taken in."""

from app.errors import BadRequest
from app.files.jsonl import first_row_without
from app.files.storage import path_of
from app.jobs.environments import check_task
from app.settings import get_settings
from app.tables import File
from app.validation import one_of
from trainer.graders.spec import (
    TEMPLATE_VARIABLE,
    EnvironmentGrader,
    Grader,
    StringCheckGrader,
    template_variables,
)
from trainer.spec import EnvironmentData

_PARAM = "method.reinforcement.grader"
_SAMPLE = ("sample.output_text", "sample.output_json")
_ACCEPTED = "item.FIELD, sample.output_text or sample.output_json.FIELD"
# What an item of a reasoning-gym task has; below metadata it is the task's own affair.
_ENVIRONMENT_FIELDS = ("question", "answer", "metadata")


def check_grader(grader: Grader) -> None:
    """Raise BadRequest when the grader cannot work with any data."""
    if isinstance(grader, EnvironmentGrader):
        check_task(grader.task, grader.parameters, param=_PARAM)
        return
    for key in ("input", "reference"):
        _check_template(grader, key)


def check_item_fields(grader: Grader, data: File | EnvironmentData, *, param: str) -> None:
    """Raise BadRequest naming a variable that some row of ``data`` has no value for."""
    for variable in sorted(template_variables(grader)):
        root, _, name = variable.partition(".")
        if root != "item" or not name:
            continue
        if isinstance(data, EnvironmentData):
            _check_environment_field(name, param)
        else:
            _check_file_field(data, name, param)
    if (
        isinstance(grader, EnvironmentGrader)
        and isinstance(data, EnvironmentData)
        and grader.task != data.task
    ):
        raise BadRequest(
            f"Invalid value for '{_PARAM}.task': '{grader.task}' cannot score the items of '{param}', which "
            f"are of the task '{data.task}'. Give '{data.task}'.",
            param=f"{_PARAM}.task",
        )


def _check_template(grader: StringCheckGrader, key: str) -> None:
    template: str = getattr(grader, key)
    param = f"{_PARAM}.{key}"
    for variable in TEMPLATE_VARIABLE.findall(template):
        known = variable in _SAMPLE or variable.startswith("sample.output_json.")
        if not known and variable.partition(".")[0] != "item":
            raise BadRequest(
                f"Invalid template variable '{variable}' in '{param}'. It should be {_ACCEPTED}.", param=param
            )
        if "" in variable.split("."):
            raise BadRequest(
                f"Invalid template variable '{variable}' in '{param}': it has an empty part.", param=param
            )
    rest = TEMPLATE_VARIABLE.sub("", template)
    if "{{" in rest:
        found = rest[rest.index("{{") :][:40]
        raise BadRequest(
            f"Invalid template in '{param}': '{found}' opens a variable that is none. "
            f"Write {{{{ {_ACCEPTED} }}}}.",
            param=param,
        )


def _check_file_field(file: File, name: str, param: str) -> None:
    """The index tells most; what it does not have is looked for in the file itself."""
    known = (file.fields or {}).get(name)
    if known is not None:
        line = known["first_missing"]
    else:
        line = first_row_without(path_of(file.id), name, get_settings().max_line_bytes)
    if line is None:
        return
    has = one_of([f"item.{field}" for field in file.fields or {}], f"item.{name}")
    raise BadRequest(
        f"The grader reads 'item.{name}', which line {line} of '{param}' ({file.id}) does not have. "
        f"Fields that the file has: {has}.",
        param=param,
        code="missing_grader_field",
    )


def _check_environment_field(name: str, param: str) -> None:
    if name.partition(".")[0] not in _ENVIRONMENT_FIELDS or name.startswith(("question.", "answer.")):
        accepted = ", ".join(f"item.{field}" for field in _ENVIRONMENT_FIELDS)
        raise BadRequest(
            f"The grader reads 'item.{name}', which items of '{param}' do not have. They have: {accepted}.",
            param=_PARAM,
            code="missing_grader_field",
        )
