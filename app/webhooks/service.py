"""What can be done with webhook endpoints."""

import time
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.ids import new_endpoint_id, new_webhook_event_id
from app.core.paging import unknown_cursor
from app.core.sealing import seal
from app.core.tables import WebhookEndpoint
from app.core.validation import abbreviated
from app.webhooks import repository
from app.webhooks.outbox import PENDING, event_payload
from app.webhooks.schemas import CreateEndpoint, EventType, UpdateEndpoint, delivery_view, endpoint_view
from app.webhooks.sending import send, webhook_reach
from app.webhooks.signing import new_signing_secret
from trainer.system.addresses import Refused

_DAY = 24 * 3600.0


def create(project_id: str, request: CreateEndpoint) -> dict[str, object]:
    """A new endpoint, with its secret."""
    _check_url(request.url)
    now, secret = time.time(), new_signing_secret()
    with write_session() as session:
        row = WebhookEndpoint(
            id=new_endpoint_id(),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            name=request.name,
            url=request.url,
            event_types=list(dict.fromkeys(request.event_types)),
            secret=seal(secret),
        )
        session.add(row)
        record(session, "webhook_endpoint.created", row.id, project_id, name=row.name, host=_host(row.url))
    return endpoint_view(row, new_secret=secret)


def retrieve(project_id: str, endpoint_id: str) -> dict[str, object]:
    """The endpoint; raises NotFound."""
    with read_session() as session:
        return endpoint_view(_found(session, project_id, endpoint_id))


def listing(project_id: str, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 endpoints, newest first."""
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := repository.find(session, project_id, after)) is None:
            raise unknown_cursor(after)
        return [
            endpoint_view(row)
            for row in repository.listing(session, project_id, after=cursor, limit=limit + 1)
        ]


def update(project_id: str, endpoint_id: str, request: UpdateEndpoint) -> dict[str, object]:
    """Change what is given; deliveries that still wait go to the new URL."""
    if request.url is not None:
        _check_url(request.url)
    with write_session() as session:
        row = _found(session, project_id, endpoint_id, lock=True)
        given = request.model_dump(exclude_none=True)
        changed = [name for name, value in given.items() if getattr(row, name) != value]
        for name in changed:
            setattr(row, name, given[name])
            row.updated_at = time.time()
        record(session, "webhook_endpoint.updated", row.id, project_id, fields=changed, host=_host(row.url))
        return endpoint_view(row)


def delete(project_id: str, endpoint_id: str) -> None:
    """Remove it with its deliveries, also those that still wait."""
    with write_session() as session:
        row = _found(session, project_id, endpoint_id, lock=True)
        session.delete(row)
        record(session, "webhook_endpoint.deleted", row.id, project_id, name=row.name)


def rotate_secret(project_id: str, endpoint_id: str, *, keep_old: bool) -> dict[str, object]:
    """A new secret; with ``keep_old`` the old one signs beside it for a day."""
    now, secret = time.time(), new_signing_secret()
    with write_session() as session:
        row = _found(session, project_id, endpoint_id, lock=True)
        row.previous_secret = row.secret if keep_old else None
        row.previous_secret_until = now + _DAY if keep_old else None
        row.secret, row.updated_at = seal(secret), now
        record(session, "webhook_endpoint.secret_rotated", row.id, project_id, keep_old=keep_old)
        return endpoint_view(row, new_secret=secret)


def seal_secrets_anew() -> int:
    """Seal with the newest key what is not yet; how many secrets. Asked at every start."""
    with write_session() as session:
        return repository.seal_anew(session)


def deliveries(
    project_id: str, endpoint_id: str, *, after: str | None, limit: int
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 deliveries with every attempt, newest first."""
    with read_session() as session:
        endpoint = _found(session, project_id, endpoint_id)
        cursor = None
        if after is not None and (cursor := repository.find_delivery(session, endpoint.id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.deliveries(session, endpoint.id, after=cursor, limit=limit + 1)
        return [delivery_view(row, attempts) for row, attempts in rows]


def redeliver(project_id: str, endpoint_id: str, delivery_id: str) -> dict[str, object]:
    """Have a delivery made again, from now on; raises NotFound."""
    with write_session() as session:
        endpoint = _found(session, project_id, endpoint_id)
        row = repository.find_delivery(session, endpoint.id, delivery_id, lock=True)
        if row is None:
            raise NotFound(f"No such delivery: '{delivery_id}'.", param="delivery_id")
        row.status, row.attempts, row.next_attempt_at = PENDING, 0, time.time()
        record(session, "webhook_delivery.repeated", row.id, project_id, event_type=row.event_type)
        return delivery_view(row, repository.attempts_of(session, row.id))


def sample_for(project_id: str, endpoint_id: str, event_type: EventType) -> tuple[str, repository.Due]:
    """The endpoint's id and an event of no job and no run, to be sent once."""
    subject = "evalrun_test" if event_type.startswith("eval.") else "ftjob-test"
    now = time.time()
    with read_session() as session:
        row = _found(session, project_id, endpoint_id)
        event_id = new_webhook_event_id()
        payload = event_payload(event_id, event_type, subject, now)
        return row.id, repository.Due("", event_id, payload, 1, row.url, repository.secrets_of(row, now))


async def send_sample(client: httpx.AsyncClient, due: repository.Due) -> int:
    """The status code that the endpoint answered with; raises BadRequest where it did not answer."""
    outcome = await send(client, due)
    if outcome.status_code is None:
        raise BadRequest(
            f"The endpoint did not answer: {outcome.error}.", param="url", code="webhook_unreachable"
        )
    return outcome.status_code


def _host(url: str) -> str | None:
    """What the audit log says of an address: the rest of it may hold a secret."""
    return urlsplit(url).hostname


def _check_url(url: str) -> None:
    try:
        webhook_reach().check_url(url)
    except Refused as error:
        raise BadRequest(f"Invalid value for 'url': {abbreviated(url)}: {error}.", param="url") from None


def _found(session: Session, project_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    row = repository.find(session, project_id, endpoint_id, lock=lock)
    if row is None:
        raise NotFound(f"No such webhook endpoint: '{endpoint_id}'.", param="webhook_endpoint_id")
    return row
