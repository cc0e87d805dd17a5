"""Webhook endpoints on the wire: the shapes of the SDK's own ``client.webhooks``."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.core.sealing import Unreadable, unseal
from app.core.tables import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from app.webhooks.signing import secret_hint
from trainer.graders.spec import StrictModel

EventType = Literal[
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=10)]


class CreateEndpoint(StrictModel):
    """The body of ``POST /v1/webhook_endpoints``."""

    name: Name = Field(description="Your name for it; 1 to 256 characters")
    url: str = Field(description="Address to post events to: https, or http where the operator allows it")
    event_types: EventTypes = Field(description="Events to subscribe to, 1 to 10")


class UpdateEndpoint(StrictModel):
    """Fields left out stay as they are."""

    name: Name | None = Field(default=None, description="What to call it from now on")
    url: str | None = Field(default=None, description="A new address")
    event_types: EventTypes | None = Field(default=None, description="All events to subscribe to from now on")


class RotateSecret(StrictModel):
    """The old secret stops working at once, or signs alongside the new one for a day."""

    keep_old_secret_active_for_24_hours: bool = Field(
        default=False,
        description="Also sign with the old secret for a day; default: it stops working at once",
    )


class SampleEvent(StrictModel):
    """The event to send a sample of."""

    event_type: EventType = Field(description="Event to send; its job or run does not exist")


def endpoint_view(row: WebhookEndpoint, *, new_secret: str | None = None) -> dict[str, object]:
    """An endpoint; its secret only when it is new."""
    try:
        hint = secret_hint(new_secret or unseal(row.secret))
    except Unreadable:
        hint = secret_hint("?????")
    return {
        "id": row.id,
        "object": "webhook_endpoint",
        "created_at": int(row.created_at),
        "updated_at": int(row.updated_at),
        "name": row.name,
        "url": row.url,
        "event_types": row.event_types,
        "signing_secret_hint": hint,
        **({} if new_secret is None else {"signing_secret": new_secret}),
    }


def delivery_view(row: WebhookDelivery, attempts: list[WebhookAttempt]) -> dict[str, object]:
    """A delivery and its attempts, ours: OpenAI shows no log."""
    return {
        "id": row.id,
        "object": "webhook_endpoint.delivery",
        "created_at": int(row.created_at),
        "webhook_endpoint_id": row.endpoint_id,
        "event_id": row.event_id,
        "event_type": row.event_type,
        "status": row.status,
        "next_attempt_at": None if row.next_attempt_at is None else int(row.next_attempt_at),
        "attempts": [
            {
                "created_at": int(one.created_at),
                "seconds": round(one.seconds, 3),
                "status_code": one.status_code,
                "error": one.error,
            }
            for one in attempts
        ],
    }
