"""What can be done with evals: create, look at, change, delete."""

import time
from typing import Literal

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import Conflict, NotFound
from app.core.idempotency import check_key, made_before, request_digest
from app.core.ids import new_eval_id
from app.core.nowhere import have_nowhere
from app.core.paging import unknown_cursor
from app.core.strict_json import JsonObject
from app.core.tables import DELETED_PROJECT, Eval, EvalRun
from app.evals import repository
from app.evals.rows import ItemSchema
from app.evals.schemas import CreateEval, Order, UpdateEval
from app.evals.views import eval_view
from app.graders.checks import check_grader
from trainer.graders.spec import Grader


def create(project_id: str, request: CreateEval, idempotency_key: str | None) -> JsonObject:
    """A new eval. Raises BadRequest for a schema or a criterion that cannot work.

    The same key with the same request gives the eval that the first one made.
    """
    check_key(idempotency_key)
    digest = request_digest(request)
    if earlier := _earlier(project_id, idempotency_key, digest):
        return earlier
    ItemSchema(request.data_source_config.item_schema, "data_source_config.item_schema").close()
    for number, grader in enumerate(request.testing_criteria):
        check_grader(grader, f"testing_criteria.{number}")
    now = time.time()
    row = Eval(
        id=new_eval_id(),
        project_id=project_id,
        idempotency_key=idempotency_key,
        request_sha256=digest,
        created_at=now,
        updated_at=now,
        name=request.name,
        data_source_config=request.data_source_config.model_dump(mode="json"),
        testing_criteria=_named(request.testing_criteria),
        user_metadata=request.metadata or None,
    )
    try:
        with write_session() as session:
            session.add(row)
            record(session, "eval.created", row.id, project_id, name=row.name)
    except IntegrityError:
        # Another request with the same key was faster.
        if earlier := _earlier(project_id, idempotency_key, digest):
            return earlier
        raise
    return eval_view(row)


def _named(criteria: list[Grader]) -> list[JsonObject]:
    """The criteria as they were given; of those with one name the later ones get a number."""
    found: list[JsonObject] = []
    taken: set[str] = set()
    for one in criteria:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name}-{number}", number + 1
        taken.add(name)
        found.append(one.model_dump(mode="json", exclude_unset=True) | {"type": one.type, "name": name})
    return found


def retrieve(project_id: str, eval_id: str) -> JsonObject:
    """The eval; raises NotFound."""
    with read_session() as session:
        return eval_view(found(session, project_id, eval_id))


def listing(
    project_id: str,
    *,
    after: str | None,
    limit: int,
    order: Order,
    order_by: Literal["created_at", "updated_at"],
) -> list[JsonObject]:
    """Up to ``limit`` + 1 evals."""
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := repository.find(session, project_id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.evals(session, project_id, after=cursor, limit=limit + 1, order=order, by=order_by)
        return [eval_view(row) for row in rows]


def change(project_id: str, eval_id: str, request: UpdateEval) -> JsonObject:
    """Change what is given; raises NotFound."""
    with write_session() as session:
        row = found(session, project_id, eval_id, lock=True)
        given = request.model_dump(exclude_unset=True)
        if "name" in given:
            row.name = given["name"]
        if "metadata" in given:
            row.user_metadata = given["metadata"] or None
        if given:
            row.updated_at = time.time()
            record(session, "eval.updated", eval_id, project_id, fields=sorted(given))
        return eval_view(row)


def delete(project_id: str, eval_id: str) -> dict[str, object]:
    """Remove an eval with its runs, none of which may be under way; raises NotFound or Conflict.

    For its project it is gone at once; the runs' items go behind (:mod:`app.evals.deletion`).
    """
    with write_session() as session:
        row = found(session, project_id, eval_id, lock=True)
        if (run := repository.unfinished_of(session, eval_id)) is not None:
            raise Conflict(
                f"The eval's run '{run}' has not ended. Cancel it before deleting the eval.",
                param="eval_id",
                code="run_not_finished",
            )
        have_nowhere(session)
        record(session, "eval.deleted", eval_id, project_id, name=row.name)
        row.project_id, row.idempotency_key = DELETED_PROJECT, None
        gone = update(EvalRun).where(EvalRun.eval_id == eval_id)
        session.execute(gone.values(project_id=DELETED_PROJECT, idempotency_key=None))
    return {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}


def found(session: Session, project_id: str, eval_id: str, *, lock: bool = False) -> Eval:
    """The eval's row; raises NotFound."""
    row = repository.find(session, project_id, eval_id, lock=lock)
    if row is None:
        raise NotFound(f"No such eval: '{eval_id}'.", param="eval_id")
    return row


def _earlier(project_id: str, key: str | None, digest: str) -> JsonObject | None:
    with read_session() as session:
        row = made_before(session, Eval, project_id, key, digest)
        return None if row is None else eval_view(row)
