"""What can be done with webhook endpoints."""

import time
from typing import Any

import httpx
from sqlalchemy.orm import Session

from app.db import read_session, write_session
from app.errors import BadRequest, NotFound
from app.ids import new_endpoint_id, new_webhook_event_id
from app.outbound import ForbiddenTarget, check_url
from app.paging import unknown_cursor
from app.settings import get_settings
from app.tables import WebhookEndpoint
from app.validation import abbreviated
from app.webhooks import repository
from app.webhooks.outbox import event_payload
from app.webhooks.schemas import CreateEndpoint, EventType, UpdateEndpoint, delivery_view, endpoint_view
from app.webhooks.sending import send
from app.webhooks.signing import new_signing_secret

_DAY = 24 * 3600.0


def create(project_id: str, request: CreateEndpoint) -> dict[str, Any]:
    """A new endpoint, with its secret."""
    _check_url(request.url)
    now = time.time()
    with write_session() as session:
        row = WebhookEndpoint(
            id=new_endpoint_id(),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            name=request.name,
            url=request.url,
            event_types=list(dict.fromkeys(request.event_types)),
            secret=new_signing_secret(),
        )
        session.add(row)
    return endpoint_view(row, with_secret=True)


def retrieve(project_id: str, endpoint_id: str) -> dict[str, Any]:
    """The endpoint; raises NotFound."""
    with read_session() as session:
        return endpoint_view(_found(session, project_id, endpoint_id))


def listing(project_id: str, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` + 1 endpoints, newest first."""
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := repository.find(session, project_id, after)) is None:
            raise unknown_cursor(after)
        return [
            endpoint_view(row)
            for row in repository.listing(session, project_id, after=cursor, limit=limit + 1)
        ]


def update(project_id: str, endpoint_id: str, request: UpdateEndpoint) -> dict[str, Any]:
    """Change what is given; deliveries that still wait go to the new URL."""
    if request.url is not None:
        _check_url(request.url)
    with write_session() as session:
        row = _found(session, project_id, endpoint_id, lock=True)
        for name, value in request.model_dump(exclude_none=True).items():
            if getattr(row, name) != value:
                setattr(row, name, value)
                row.updated_at = time.time()
        return endpoint_view(row)


def delete(project_id: str, endpoint_id: str) -> None:
    """Remove it with its deliveries, also those that still wait."""
    with write_session() as session:
        session.delete(_found(session, project_id, endpoint_id, lock=True))


def rotate_secret(project_id: str, endpoint_id: str, *, keep_old: bool) -> dict[str, Any]:
    """A new secret; with ``keep_old`` the old one signs beside it for a day."""
    now = time.time()
    with write_session() as session:
        row = _found(session, project_id, endpoint_id, lock=True)
        row.previous_secret = row.secret if keep_old else None
        row.previous_secret_until = now + _DAY if keep_old else None
        row.secret, row.updated_at = new_signing_secret(), now
        return endpoint_view(row, with_secret=True)


def deliveries(project_id: str, endpoint_id: str, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """Up to ``limit`` + 1 deliveries with every attempt, newest first."""
    with read_session() as session:
        endpoint = _found(session, project_id, endpoint_id)
        cursor = None
        if after is not None and (cursor := repository.find_delivery(session, endpoint.id, after)) is None:
            raise unknown_cursor(after)
        rows = repository.deliveries(session, endpoint.id, after=cursor, limit=limit + 1)
        return [delivery_view(row, attempts) for row, attempts in rows]


def sample_for(project_id: str, endpoint_id: str, event_type: EventType) -> tuple[str, repository.Due]:
    """The endpoint's id and an event of no job, to be sent once."""
    now = time.time()
    with read_session() as session:
        row = _found(session, project_id, endpoint_id)
        event_id = new_webhook_event_id()
        payload = event_payload(event_id, event_type, "ftjob-test", now)
        return row.id, repository.Due("", event_id, payload, 1, row.url, repository.secrets_of(row, now))


async def send_sample(client: httpx.AsyncClient, due: repository.Due) -> int:
    """The status code that the endpoint answered with; raises BadRequest where it did not answer."""
    outcome = await send(client, due)
    if outcome.status_code is None:
        raise BadRequest(
            f"The endpoint did not answer: {outcome.error}.", param="url", code="webhook_unreachable"
        )
    return outcome.status_code


def _check_url(url: str) -> None:
    try:
        check_url(url, get_settings().webhook_allowed_hosts)
    except ForbiddenTarget as error:
        raise BadRequest(f"Invalid value for 'url': {abbreviated(url)}: {error}.", param="url") from None


def _found(session: Session, project_id: str, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    row = repository.find(session, project_id, endpoint_id, lock=lock)
    if row is None:
        raise NotFound(f"No such webhook endpoint: '{endpoint_id}'.", param="webhook_endpoint_id")
    return row
