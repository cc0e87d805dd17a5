"""Trying a grader: set up, one sample, taken down again."""

import time

from app.core.db import read_session
from app.files.service import training_file
from app.graders.checks import as_bad_request, check_grader
from app.graders.lane import Check
from app.graders.rows import check_item_fields
from app.graders.schemas import GraderErrors, GraderRun, GraderRunMetadata, RunGrader, ValidateGrader
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.fields import RemoteFields
from trainer.graders.grade import Grade, Sample
from trainer.graders.spec import Grader, MultiGrader

# A client waits: shorter than a job may be patient.
_MAX_SECONDS, _MAX_RETRIES = 60.0, 1


def validate(project_id: str, request: ValidateGrader) -> dict[str, object]:
    """The grader as it was given. Raises BadRequest when it cannot work, or not with the file's rows."""
    check_grader(request.grader, "grader")
    if request.training_file is not None:
        with read_session() as session:
            file = training_file(session, project_id, request.training_file, "training_file")
        check_item_fields(request.grader, file, param="training_file")
    return {"grader": request.grader.model_dump(mode="json", exclude_unset=True)}


def run(request: RunGrader, check: Check) -> GraderRun:
    """Grade one sample. Raises BadRequest for a grader that cannot work."""
    started = time.perf_counter()
    (grade,) = grade_samples(request.grader, request.item, [request.model_sample], "grader", check)
    return _result(request.grader, grade, time.perf_counter() - started)


def grade_samples(
    definition: Grader, item: dict[str, object], texts: list[str], param: str, check: Check
) -> list[Grade]:
    """Grade responses to ``item``, with a client that waits; ``param`` is where the grader was given.

    For a thread of ``app.graders.lane``, whose ``check`` ends it. Raises BadRequest for a grader that cannot
    work.
    """
    check_grader(definition, param)
    try:
        check()
        grader = build_grader(_brief(definition), workers=1)
        try:
            return grader.grade_many([Sample.of(item, text) for text in texts], check)
        finally:
            grader.close()
    except InvalidSpec as error:
        raise as_bad_request(error, param) from None


def _brief(grader: Grader) -> Grader:
    """The same grader with less patience."""
    if isinstance(grader, MultiGrader):
        return grader.model_copy(
            update={"graders": {name: _brief(one) for name, one in grader.named.items()}}
        )
    changes: dict[str, object] = {}
    if (seconds := getattr(grader, "timeout_seconds", None)) is not None:
        changes["timeout_seconds"] = min(seconds, _MAX_SECONDS)
    if isinstance(grader, RemoteFields):
        changes["max_retries"] = min(grader.max_retries, _MAX_RETRIES)
    return grader.model_copy(update=changes)


def _result(grader: Grader, grade: Grade, seconds: float) -> GraderRun:
    tokens = sum(_total(counts) for counts in grade.usage.values())
    metadata = GraderRunMetadata(
        errors=_errors(grade),
        execution_time=seconds,
        name=grader.name,
        sampled_model_name=next(iter(grade.usage), None),
        scores=grade.scores,
        token_usage=tokens if grade.usage else None,
        type=grader.type,
        error=_printable(grade.error),
    )
    names = grader.named if isinstance(grader, MultiGrader) else ()
    return GraderRun(
        metadata=metadata,
        model_grader_token_usage_per_model=grade.usage,
        reward=grade.reward or 0.0,
        sub_rewards={name: grade.scores[name] for name in names if name in grade.scores},
    )


def _errors(grade: Grade) -> GraderErrors:
    if grade.reward is not None:
        return GraderErrors()
    details: dict[str, dict[str, str | None]] = {
        "model_grader_server_error": {"model_grader_server_error_details": _printable(grade.error)},
        "python_grader_runtime_error": {"python_grader_runtime_error_details": _printable(grade.error)},
        "python_grader_server_error": {"python_grader_server_error_type": _printable(grade.error)},
    }
    return GraderErrors.model_validate({grade.kind: True, **details.get(grade.kind, {})})


def _total(counts: dict[str, int]) -> int:
    return counts.get("total_tokens", counts.get("prompt_tokens", 0) + counts.get("completion_tokens", 0))


def _printable(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which no response can carry."""
    return None if text is None else text.encode("utf-8", "replace").decode()
