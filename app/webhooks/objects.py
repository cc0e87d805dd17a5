"""Webhook endpoints as the API's description has them; ``app.webhooks.schemas`` makes them."""

from typing import Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.webhooks.schemas import EventType


class EventTypeList(BaseModel):
    """What an endpoint can be told of."""

    object: Kind[Literal["list"]]
    data: list[EventType] = Field(description="Names of events that an endpoint can ask for")


class EndpointObject(BaseModel):
    """An endpoint."""

    id: str = Field(description="Id of the endpoint, `we_…`")
    object: Kind[Literal["webhook_endpoint"]]
    created_at: CreatedAt
    updated_at: int = Field(description="When it was last changed, Unix time in seconds")
    name: str = Field(description="What you call it")
    url: str = Field(description="Where events are posted")
    event_types: list[EventType] = Field(description="What it is told of")
    signing_secret_hint: str = Field(description="The end of its secret, to tell secrets apart")


class EndpointWithSecret(EndpointObject):
    """An endpoint whose secret is new, and shown this once."""

    signing_secret: str = Field(
        description="`whsec_…`: keep it, for it is shown this once; it verifies what the endpoint receives"
    )


class EndpointDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id that the endpoint had")
    object: Kind[Literal["webhook_endpoint.deleted"]]
    deleted: Deleted


class TestResult(BaseModel):
    """How the endpoint took a sample."""

    object: Kind[Literal["webhook_endpoint.test"]]
    webhook_endpoint_id: str = Field(description="The endpoint that was tried")
    event_type: EventType = Field(description="The event that was sent")
    status_code: int = Field(description="What the endpoint answered")
    success: bool = Field(description="Always true: an endpoint that does not answer is told of by an error")


class DeliveryAttempt(BaseModel):
    """One try at a delivery."""

    created_at: CreatedAt
    seconds: float = Field(description="How long the endpoint took, in seconds")
    status_code: int | None = Field(description="What it answered; null where it was not reached")
    error: str | None = Field(description="Why the try failed, in words; null when it went well")


class DeliveryObject(BaseModel):
    """What was sent, or is still to be."""

    id: str = Field(description="Id of the delivery, `whd_…`")
    object: Kind[Literal["webhook_endpoint.delivery"]]
    created_at: CreatedAt
    webhook_endpoint_id: str = Field(description="Where it goes")
    event_id: str = Field(
        description="Id of the event, the same at every try and for every endpoint: repetitions are known "
        "by it"
    )
    event_type: EventType = Field(description="What it tells of")
    status: Literal["pending", "delivered", "failed"] = Field(
        description="pending while there are tries to come, delivered once taken, failed when all tries are "
        "used up"
    )
    next_attempt_at: int | None = Field(
        description="When it is tried next, Unix time in seconds; null when it is not"
    )
    attempts: list[DeliveryAttempt] = Field(description="Every try so far")
