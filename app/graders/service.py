"""Trying a grader: set up, one sample, taken down again."""

import threading
import time
from functools import lru_cache
from typing import Any

from app.errors import TooManyRequests
from app.graders.checks import as_bad_request, check_grader
from app.graders.schemas import GraderErrors, GraderRun, GraderRunMetadata, RunGrader, ValidateGrader
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grade, Sample
from trainer.graders.spec import Grader, MultiGrader, RemoteFields

#: At a time, in one API process: each may start processes and wait for others.
RUNS = 4
WAIT_SECONDS = 10.0
# A client waits: shorter than a job may be patient.
_MAX_SECONDS, _MAX_RETRIES = 60.0, 1


def validate(request: ValidateGrader) -> dict[str, Any]:
    """The grader as it was given. Raises BadRequest when it cannot work."""
    check_grader(request.grader, "grader")
    return {"grader": request.grader.model_dump(mode="json", exclude_unset=True)}


def run(request: RunGrader) -> GraderRun:
    """Grade one sample. Raises BadRequest for a grader that cannot work, TooManyRequests when busy."""
    started = time.perf_counter()
    (grade,) = grade_samples(request.grader, request.item, [request.model_sample], "grader")
    return _result(request.grader, grade, time.perf_counter() - started)


def grade_samples(definition: Grader, item: dict[str, Any], texts: list[str], param: str) -> list[Grade]:
    """Grade responses to ``item``, with a client that waits; ``param`` is where the grader was given.

    Raises BadRequest for a grader that cannot work, TooManyRequests when busy.
    """
    check_grader(definition, param)
    if not _slots().acquire(timeout=WAIT_SECONDS):
        raise TooManyRequests(
            f"{RUNS} graders are being run already; try again in a few seconds.", headers={"retry-after": "5"}
        )
    try:
        grader = build_grader(_brief(definition), workers=1)
        try:
            return grader.grade_many([Sample(item, text) for text in texts])
        finally:
            grader.close()
    except InvalidSpec as error:
        raise as_bad_request(error, param) from None
    finally:
        _slots().release()


@lru_cache
def _slots() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(RUNS)


def _brief(grader: Grader) -> Grader:
    """The same grader with less patience."""
    if isinstance(grader, MultiGrader):
        return grader.model_copy(
            update={"graders": {name: _brief(one) for name, one in grader.named.items()}}
        )
    changes: dict[str, Any] = {}
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
    details: dict[str, Any] = {
        "model_grader_server_error": {"model_grader_server_error_details": _printable(grade.error)},
        "python_grader_runtime_error": {"python_grader_runtime_error_details": _printable(grade.error)},
        "python_grader_server_error": {"python_grader_server_error_type": _printable(grade.error)},
    }.get(grade.kind, {})
    return GraderErrors(**{grade.kind: True}, **details)


def _total(counts: dict[str, int]) -> int:
    return counts.get("total_tokens", counts.get("prompt_tokens", 0) + counts.get("completion_tokens", 0))


def _printable(text: str | None) -> str | None:
    """Without halves of surrogate pairs, which no response can carry."""
    return None if text is None else text.encode("utf-8", "replace").decode()
