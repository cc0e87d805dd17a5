"""What is to be delivered, written down in the transaction that it tells of: neither is without the other."""

import json
import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.ids import new_delivery_id, new_webhook_event_id
from app.core.tables import WebhookDelivery, WebhookEndpoint

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


def event_payload(event_id: str, event_type: str, subject: str, now: float) -> str:
    """The body of an event, as it is signed and sent at every attempt."""
    event = {
        "id": event_id,
        "object": "event",
        "created_at": int(now),
        "type": event_type,
        "data": {"id": subject},
    }
    return json.dumps(event, separators=(",", ":"))


def announce_end(session: Session, project_id: str, event_type: str, subject: str, now: float) -> None:
    """Leave a delivery for each of the project's endpoints that want to know of this end of ``subject``, a
    job or a run of an eval, by its id."""
    rows = session.execute(
        select(WebhookEndpoint.id, WebhookEndpoint.event_types).where(
            WebhookEndpoint.project_id == project_id
        )
    )
    wanting = [endpoint for endpoint, types in rows if event_type in types]
    event_id = new_webhook_event_id()
    for endpoint in wanting:
        session.add(
            WebhookDelivery(
                id=new_delivery_id(),
                endpoint_id=endpoint,
                created_at=time.time(),
                event_id=event_id,
                event_type=event_type,
                payload=event_payload(event_id, event_type, subject, now),
                status=PENDING,
                attempts=0,
                next_attempt_at=now,
            )
        )
