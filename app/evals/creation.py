"""A run is taken in: what it refers to is found, every row is looked at, then it waits for a worker."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict, Forbidden, NotFound
from app.core.idempotency import check_key, made_before, request_digest
from app.core.ids import new_eval_run_id
from app.core.settings import get_settings
from app.core.strict_json import JsonObject
from app.core.tables import Eval, EvalRun, File
from app.evals import repository
from app.evals.asking import DEFAULT_SEED, Asking
from app.evals.data_sources import AskingRun, FileId, JsonlRun
from app.evals.rows import EvalRow, ItemSchema, check_rows, rows_given, rows_of_file
from app.evals.schemas import CRITERIA, CreateEvalRun
from app.evals.service import found
from app.evals.views import run_view
from app.files.repository import lock_project
from app.files.schemas import EVALS_PURPOSE, TRAINING_PURPOSE
from app.files.service import file_for
from app.inference.service import modes_of
from app.models.service import find_model
from trainer.errors import InvalidSpec
from trainer.graders.operator import endpoint_named

_PURPOSES = (EVALS_PURPOSE, TRAINING_PURPOSE)
_FILE = "data_source.source.id"


@dataclass(frozen=True)
class _Asked:
    """Which model is asked: its mode and, of a fine-tuned one, the checkpoint that it was then."""

    model: str
    mode: str | None = None
    weights: str | None = None


def create(
    project_id: str, eval_id: str, request: CreateEvalRun, idempotency_key: str | None, page: str
) -> JsonObject:
    """A new run, which waits for a worker. Every row is looked at first: raises BadRequest naming one.

    The same key with the same request gives the run that the first one made.
    """
    check_key(idempotency_key)
    digest = request_digest(request)
    if earlier := _earlier(project_id, eval_id, idempotency_key, digest, page):
        return earlier
    source = request.data_source
    with read_session() as session:
        of = found(session, project_id, eval_id)
        file = _file(session, project_id, source)
    asking = None if isinstance(source, JsonlRun) else Asking(source)
    asked = _Asked("") if isinstance(source, JsonlRun) else _model(project_id, source, asking)
    total = _checked(of, request, file, asking)
    row = EvalRun(
        eval_id=eval_id,
        project_id=project_id,
        idempotency_key=idempotency_key,
        request_sha256=digest,
        file_id=None if file is None else file.id,
        total=total,
        criteria=[{"passed": 0, "failed": 0, "errored": 0, "score": 0.0} for _ in of.testing_criteria],
        **_columns(request, asked),
    )
    try:
        with write_session() as session:
            lock_project(session, project_id)
            # Locked: whoever deletes the eval, or the file, waits and then sees the run.
            of = found(session, project_id, eval_id, lock=True)
            if file is not None:
                file_for(session, project_id, file.id, _FILE, _PURPOSES, lock=True)
            _check_quota(session, project_id, total)
            session.add(row)
            session.flush()
            record(session, "eval.run.created", row.id, project_id, name=row.name, eval=eval_id)
            return run_view(row, of.testing_criteria, page, rows=True)
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(project_id, eval_id, idempotency_key, digest, page):
            return earlier
        raise


def _columns(request: CreateEvalRun, asked: _Asked) -> JsonObject:
    """What the row of a new run says of its request and of itself."""
    source = request.data_source
    told = source.model_dump(mode="json", by_alias=True, exclude_unset=True)
    inline = told["source"].pop("content", None)
    seed = None if isinstance(source, JsonlRun) else source.sampling_params.seed
    return {
        "id": new_eval_run_id(),
        "created_at": time.time(),
        "status": "queued",
        "name": request.name or asked.model or "Answers as given",
        "model": asked.model,
        "mode": asked.mode,
        "weights": asked.weights,
        "data_source": told,
        "inline_rows": inline,
        "seed": DEFAULT_SEED if seed is None else seed,
        "usage": {},
        "user_metadata": request.metadata or None,
        "cancel_requested": False,
        "pause_requested": False,
        **dict.fromkeys(("passed", "failed", "errored", "attempt"), 0),
    }


def _file(session: Session, project_id: str, source: AskingRun | JsonlRun) -> File | None:
    where = source.source
    if not isinstance(where, FileId):
        return None
    return file_for(session, project_id, where.id, _FILE, _PURPOSES)


def _model(project_id: str, source: AskingRun, asking: Asking | None) -> _Asked:
    if source.endpoint is not None:
        try:
            endpoint_named(source.endpoint)
        except InvalidSpec as error:
            said = f"Invalid value for 'data_source.endpoint': {error}."
            raise BadRequest(said.replace(", or give base_url", ""), param="data_source.endpoint") from None
        return _Asked(source.model)
    assert asking is not None
    try:
        with read_session() as session:
            model = find_model(session, project_id, source.model)
        (mode,) = modes_of(asking.of_modes(), model)
    except (BadRequest, NotFound) as error:
        # As of any field of a request that refers to what there is not.
        raise BadRequest(error.message, param=f"data_source.{error.param}", code=error.code) from None
    return _Asked(source.model, mode.value, model.checkpoint)


def _checked(of: Eval, request: CreateEvalRun, file: File | None, asking: Asking | None) -> int:
    """How many rows there are, all of which can be asked and graded."""
    schema = ItemSchema(of.data_source_config["item_schema"], "data_source_config.item_schema")
    try:
        rows = _rows(request, file)
        param = "data_source.source" if file is None else _FILE
        return check_rows(rows, schema, CRITERIA.validate_python(of.testing_criteria), asking, param)
    finally:
        schema.close()


def _rows(request: CreateEvalRun, file: File | None) -> Iterator[EvalRow]:
    where = request.data_source.source
    if isinstance(where, FileId):
        assert file is not None
        return rows_of_file(file)
    return rows_given(where.model_dump()["content"])


def _check_quota(session: Session, project_id: str, total: int) -> None:
    """Raise Forbidden where the run would make it too much."""
    settings = get_settings()
    runs, items = repository.unfinished(session, project_id)
    for what, planned, added, most, name in (
        ("runs", runs, 1, settings.project_max_eval_runs, "RUNS"),
        ("items", items, total, settings.project_max_eval_items, "ITEMS"),
    ):
        if most and planned + added > most:
            raise Forbidden(
                f"The project's unfinished eval runs have {planned} {what}; {added} more would exceed the "
                f"limit of {most}. Wait for some to end, or cancel them; the operator can change the "
                f"limit with POLICYSPLIT_PROJECT_MAX_EVAL_{name}.",
                code="quota_exceeded",
            )


def _earlier(project_id: str, eval_id: str, key: str | None, digest: str, page: str) -> JsonObject | None:
    with read_session() as session:
        row = made_before(session, EvalRun, project_id, key, digest)
        if row is None:
            return None
        of = found(session, project_id, eval_id)
        if row.eval_id != eval_id:
            raise Conflict(
                f"The header 'Idempotency-Key' has created the run '{row.id}' of another eval. Send a "
                "different key.",
                param="Idempotency-Key",
                code="idempotency_key_reused",
            )
        return run_view(row, of.testing_criteria, page, rows=True)
