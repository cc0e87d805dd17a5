"""The audit log: every change with who made it, in the change's own transaction.

Who asks is set once for a request, by what finds its key; services say what they change. Never with a
secret: a detail is a name, an id, a number or the names of fields.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.core.ids import new_audit_id
from app.core.tables import AuditEntry

#: What is told of, and nothing else: the hosted service's words where it has them.
Change = Literal[
    "api_key.created",
    "api_key.revoked",
    "checkpoint.permission.created",
    "checkpoint.permission.deleted",
    "estimate.created",
    "eval.created",
    "eval.deleted",
    "eval.run.canceled",
    "eval.run.created",
    "eval.run.deleted",
    "eval.run.paused",
    "eval.run.resumed",
    "eval.updated",
    "experiment.cancelled",
    "experiment.created",
    "experiment.extended",
    "file.created",
    "file.deleted",
    "job.cancelled",
    "job.created",
    "job.deleted",
    "job.paused",
    "job.resumed",
    "job.updated",
    "login.succeeded",
    "logout.succeeded",
    "model.deleted",
    "model.pull.cancelled",
    "model.pull.started",
    "prices.updated",
    "project.created",
    "project.updated",
    "replay.created",
    "webhook_delivery.repeated",
    "webhook_endpoint.created",
    "webhook_endpoint.deleted",
    "webhook_endpoint.secret_rotated",
    "webhook_endpoint.updated",
    "worker.drained",
    "worker.undrained",
]


@dataclass(frozen=True)
class Actor:
    """Who sent a request. ``id``: of a key, or the address of somebody who signed in; None: no key is needed.

    ``address``: the client's, as the proxies that are trusted tell it.
    """

    id: str | None
    address: str | None
    request_id: str


#: Of the request that is being answered.
ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


def record(session: Session, change: Change, object_id: str, project_id: str, **details: object) -> None:
    """Tell of a change that ``session`` makes to what ``object_id`` names, of this project."""
    actor = ACTOR.get()
    session.add(
        AuditEntry(
            id=new_audit_id(),
            at=time.time(),
            project_id=project_id,
            type=change,
            object_id=object_id,
            actor_id=None if actor is None else actor.id,
            address=None if actor is None else actor.address,
            request_id=None if actor is None else actor.request_id,
            details=details,
        )
    )
