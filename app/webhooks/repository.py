"""Rows of webhook endpoints and deliveries."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from app.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint


@dataclass(frozen=True)
class Due:
    """A delivery that this process has taken, until its hold on it runs out."""

    id: str
    event_id: str
    payload: str
    attempts: int
    url: str
    secrets: tuple[str, ...]


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


def find_delivery(session: Session, endpoint_id: str, delivery_id: str) -> WebhookDelivery | None:
    row = session.get(WebhookDelivery, delivery_id)
    return row if row is not None and row.endpoint_id == endpoint_id else None


def deliveries(
    session: Session, endpoint_id: str, *, after: WebhookDelivery | None, limit: int
) -> list[tuple[WebhookDelivery, list[WebhookAttempt]]]:
    """Up to ``limit`` deliveries with their attempts, newest first."""
    key = (WebhookDelivery.created_at, WebhookDelivery.id)
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if after is not None:
        query = query.where(tuple_(*key) < tuple_(after.created_at, after.id))
    rows = session.scalars(query.order_by(*(one.desc() for one in key)).limit(limit)).all()
    attempts: dict[str, list[WebhookAttempt]] = {row.id: [] for row in rows}
    made = select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(list(attempts)))
    for one in session.scalars(made.order_by(WebhookAttempt.id)):
        attempts[one.delivery_id].append(one)
    return [(row, attempts[row.id]) for row in rows]


def due(session: Session, limit: int) -> Sequence[tuple[str, float]]:
    """Deliveries whose time has come, each with that time."""
    when = WebhookDelivery.next_attempt_at
    query = select(WebhookDelivery.id, when).where(when <= time.time()).order_by(when).limit(limit)
    return [(identifier, at) for identifier, at in session.execute(query) if at is not None]


def take(session: Session, delivery_id: str, was_due: float, hold_seconds: float) -> Due | None:
    """Claim a delivery that is due; None when another process was faster.

    Should this process die, the delivery is due again after ``hold_seconds``.
    """
    now = time.time()
    taken = session.scalar(
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, WebhookDelivery.next_attempt_at == was_due)
        .values(next_attempt_at=now + hold_seconds, attempts=WebhookDelivery.attempts + 1)
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    if taken is None:
        return None
    query = select(WebhookDelivery, WebhookEndpoint).join(WebhookEndpoint)
    delivery, endpoint = session.execute(query.where(WebhookDelivery.id == delivery_id)).one()
    return Due(
        delivery.id,
        delivery.event_id,
        delivery.payload,
        delivery.attempts,
        endpoint.url,
        secrets_of(endpoint, now),
    )


def remove_over(session: Session, before: float) -> int:
    """Forget deliveries of before ``before`` that are over, with their attempts; how many."""
    over = WebhookDelivery.next_attempt_at.is_(None)
    found = session.scalars(
        delete(WebhookDelivery)
        .where(over, WebhookDelivery.created_at < before)
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(found.all())


def secrets_of(endpoint: WebhookEndpoint, now: float) -> tuple[str, ...]:
    """The secrets that sign now: after a rotation also the old one, for its last day."""
    old, until = endpoint.previous_secret, endpoint.previous_secret_until
    return (endpoint.secret, *([old] if old is not None and until is not None and now < until else []))
