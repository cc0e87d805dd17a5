"""Webhook endpoints as the API's description has them; ``app.webhooks.schemas`` makes them."""

from typing import Literal

from pydantic import BaseModel

from app.webhooks.schemas import EventType


class EventTypeList(BaseModel):
    """What an endpoint can be told of."""

    object: Literal["list"]
    data: list[EventType]


class EndpointObject(BaseModel):
    """An endpoint."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[EventType]
    signing_secret_hint: str


class EndpointWithSecret(EndpointObject):
    """An endpoint whose secret is new, and shown this once."""

    signing_secret: str


class EndpointDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["webhook_endpoint.deleted"]
    deleted: bool


class TestResult(BaseModel):
    """How the endpoint took a sample."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: EventType
    status_code: int
    success: bool


class AttemptObject(BaseModel):
    """One try at a delivery."""

    created_at: int
    seconds: float
    status_code: int | None
    error: str | None


class DeliveryObject(BaseModel):
    """What was sent, or is still to be."""

    id: str
    object: Literal["webhook_endpoint.delivery"]
    created_at: int
    webhook_endpoint_id: str
    event_id: str
    event_type: EventType
    status: Literal["pending", "delivered", "failed"]
    next_attempt_at: int | None
    attempts: list[AttemptObject]
