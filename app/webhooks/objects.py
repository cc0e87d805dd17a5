"""Webhook endpoints as the API's description has them; ``app.webhooks.schemas`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.webhooks.schemas import EventType


class EventTypeList(BaseModel):
    """The events that an endpoint can subscribe to."""

    object: Kind[Literal["list"]]
    data: list[EventType] = Field(description="Names of events that an endpoint can subscribe to")


class EndpointObject(BaseModel):
    """An endpoint."""

    id: str = Field(description="Id of the endpoint, `we_…`")
    object: Kind[Literal["webhook_endpoint"]]
    created_at: CreatedAt
    updated_at: int = Field(description="When it was last changed, Unix time in seconds")
    name: str = Field(description="Your name for it")
    url: str = Field(description="The address to which events are posted")
    event_types: list[EventType] = Field(description="Events it is subscribed to")
    signing_secret_hint: str = Field(description="The last characters of its secret, to tell secrets apart")


class EndpointWithSecret(EndpointObject):
    """An endpoint with its new secret, which is shown only once."""

    signing_secret: str = Field(
        description="`whsec_…`, to verify what the endpoint receives: keep it, since it is shown only once"
    )


class EndpointDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id of the deleted endpoint")
    object: Kind[Literal["webhook_endpoint.deleted"]]
    deleted: Deleted


class TestResult(BaseModel):
    """The endpoint's response to a sample."""

    object: Kind[Literal["webhook_endpoint.test"]]
    webhook_endpoint_id: str = Field(description="Id of the endpoint that was tested")
    event_type: EventType = Field(description="The event that was sent")
    status_code: int = Field(description="What the endpoint answered")
    success: bool = Field(description="Always true: an endpoint that does not answer is reported as an error")


class DeliveryAttempt(BaseModel):
    """One attempt at a delivery."""

    created_at: CreatedAt
    seconds: float = Field(description="How long the endpoint took, in seconds")
    status_code: int | None = Field(description="What it answered; null if it could not be reached")
    error: str | None = Field(description="Why the attempt failed, in words; null if it succeeded")


class DeliveryObject(BaseModel):
    """A delivery that was sent or is pending."""

    id: str = Field(description="Id of the delivery, `whd_…`")
    object: Kind[Literal["webhook_endpoint.delivery"]]
    created_at: CreatedAt
    webhook_endpoint_id: str = Field(description="Id of the endpoint it goes to")
    event_id: str = Field(
        description="Id of the event, the same in every attempt and for every endpoint, so that "
        "repetitions can be recognised"
    )
    event_type: EventType = Field(description="What the event reports")
    status: Literal["pending", "delivered", "failed"] = Field(
        description="pending while attempts remain, delivered once accepted, failed when all attempts are "
        "used up"
    )
    next_attempt_at: int | None = Field(
        description="Time of the next attempt, Unix time in seconds; null if there is none"
    )
    attempts: list[DeliveryAttempt] = Field(description="All attempts so far")
