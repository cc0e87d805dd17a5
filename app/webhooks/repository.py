"""Rows of webhook endpoints and deliveries."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, delete, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from app.core.sealing import sealed_anew
from app.core.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint

#: Deliveries that are forgotten in one transaction.
PURGED = 500


@dataclass(frozen=True)
class Due:
    """A delivery that this process has taken, until its hold on it runs out."""

    id: str
    event_id: str
    payload: str
    attempts: int
    url: str
    secrets: tuple[str, ...]
    """Sealed."""


def find(
    session: Session, project_id: str, endpoint_id: str, *, lock: bool = False
) -> WebhookEndpoint | None:
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.project_id == project_id
    )
    return session.scalars(query.with_for_update() if lock else query).first()


def listing(
    session: Session, project_id: str, *, after: WebhookEndpoint | None, limit: int
) -> Sequence[WebhookEndpoint]:
    """Up to ``limit`` endpoints that follow ``after``, newest first."""
    key = (WebhookEndpoint.created_at, WebhookEndpoint.id)
    query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
    if after is not None:
        query = query.where(tuple_(*key) < tuple_(after.created_at, after.id))
    return session.scalars(query.order_by(*(one.desc() for one in key)).limit(limit)).all()


def find_delivery(
    session: Session, endpoint_id: str, delivery_id: str, *, lock: bool = False
) -> WebhookDelivery | None:
    row = session.get(WebhookDelivery, delivery_id, with_for_update=lock or None)
    return row if row is not None and row.endpoint_id == endpoint_id else None


def attempts_of(session: Session, delivery_id: str) -> list[WebhookAttempt]:
    query = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return list(session.scalars(query.order_by(WebhookAttempt.id)))


def deliveries(
    session: Session, endpoint_id: str, *, after: WebhookDelivery | None, limit: int
) -> list[tuple[WebhookDelivery, list[WebhookAttempt]]]:
    """Up to ``limit`` deliveries with their attempts, newest first: as one statement, or an attempt that ends
    meanwhile would stand beside a delivery that still waits for it.
    """
    key = (WebhookDelivery.created_at, WebhookDelivery.id)
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if after is not None:
        query = query.where(tuple_(*key) < tuple_(after.created_at, after.id))
    row = aliased(WebhookDelivery, query.order_by(*(one.desc() for one in key)).limit(limit).subquery())
    both = select(row, WebhookAttempt).outerjoin(WebhookAttempt, WebhookAttempt.delivery_id == row.id)
    found: dict[str, tuple[WebhookDelivery, list[WebhookAttempt]]] = {}
    for one, attempt in session.execute(
        both.order_by(row.created_at.desc(), row.id.desc(), WebhookAttempt.id)
    ):
        attempts = found.setdefault(one.id, (one, []))[1]
        if attempt is not None:
            attempts.append(attempt)
    return list(found.values())


def any_due(session: Session) -> bool:
    """Whether the time of a delivery has come."""
    return session.scalar(_due().limit(1)) is not None


def take(session: Session, limit: int, hold_seconds: float) -> list[Due]:
    """Claim up to ``limit`` deliveries that are due, of those that no other process is just claiming.

    Should this process die, they are due again after ``hold_seconds``.
    """
    now = time.time()
    when = WebhookDelivery.next_attempt_at
    some = _due().order_by(when).limit(limit).with_for_update(skip_locked=True)
    taken = session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(some))
        .values(next_attempt_at=now + hold_seconds, attempts=WebhookDelivery.attempts + 1)
        .returning(
            WebhookDelivery.id,
            WebhookDelivery.event_id,
            WebhookDelivery.payload,
            WebhookDelivery.attempts,
            WebhookDelivery.endpoint_id,
        )
        .execution_options(synchronize_session=False)
    ).all()
    query = select(WebhookEndpoint).where(WebhookEndpoint.id.in_({row.endpoint_id for row in taken}))
    endpoints = {one.id: one for one in session.scalars(query)} if taken else {}
    return [
        Due(row.id, row.event_id, row.payload, row.attempts, one.url, secrets_of(one, now))
        for row in taken
        for one in [endpoints[row.endpoint_id]]
    ]


def _due() -> Select[str]:
    return select(WebhookDelivery.id).where(WebhookDelivery.next_attempt_at <= time.time())


def remove_over(session: Session, before: float) -> int:
    """Forget some deliveries of before ``before`` that are over, with their attempts; how many."""
    over = select(WebhookDelivery.id).where(
        WebhookDelivery.next_attempt_at.is_(None), WebhookDelivery.created_at < before
    )
    some = over.limit(PURGED).with_for_update(skip_locked=True)
    found = session.scalars(
        delete(WebhookDelivery)
        .where(WebhookDelivery.id.in_(some))
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(found.all())


def secrets_of(endpoint: WebhookEndpoint, now: float) -> tuple[str, ...]:
    """The secrets that sign now, sealed: after a rotation also the old one, for its last day."""
    old, until = endpoint.previous_secret, endpoint.previous_secret_until
    return (endpoint.secret, *([old] if old is not None and until is not None and now < until else []))


def seal_anew(session: Session) -> int:
    """Seal the secrets with the newest key that are not yet; how many."""
    changed = 0
    for endpoint in session.scalars(select(WebhookEndpoint)):
        for name in ("secret", "previous_secret"):
            stored = getattr(endpoint, name)
            if stored is not None and (anew := sealed_anew(stored)) is not None:
                setattr(endpoint, name, anew)
                changed += 1
    return changed
