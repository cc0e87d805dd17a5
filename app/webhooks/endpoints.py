"""``/v1/webhook_endpoints``: the routes of the SDK's ``client.webhooks``, and a delivery log."""

from typing import get_args

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from app.core.auth import ProjectId
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.parameters import DeliveryId, EndpointId
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN, READ
from app.webhooks import objects, service
from app.webhooks.schemas import CreateEndpoint, EventType, RotateSecret, SampleEvent, UpdateEndpoint
from app.webhooks.sending import webhook_client

router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=StrictRoute)


@router.get("/webhook_event_types", **answers(objects.EventTypeList), **READ)
def list_event_types() -> dict[str, object]:
    """List the events that an endpoint can subscribe to."""
    return {"object": "list", "data": list(get_args(EventType))}


@router.post("/webhook_endpoints", **answers(objects.EndpointWithSecret), **ADMIN)
def create_endpoint(body: CreateEndpoint, project: ProjectId) -> dict[str, object]:
    """Create a webhook endpoint, notified when jobs or eval runs end.

    The signing secret is shown only now.
    """
    return service.create(project, body)


@router.get("/webhook_endpoints", **answers(ListOf[objects.EndpointObject]), **READ)
def list_endpoints(project: ProjectId, after: After = None, limit: Limit = 20) -> Response:
    """List webhook endpoints, newest first."""
    return page(service.listing(project, after=after, limit=limit), limit)


@router.get("/webhook_endpoints/{webhook_endpoint_id}", **answers(objects.EndpointObject), **READ)
def retrieve_endpoint(webhook_endpoint_id: EndpointId, project: ProjectId) -> dict[str, object]:
    """Get a webhook endpoint."""
    return service.retrieve(project, webhook_endpoint_id)


@router.post("/webhook_endpoints/{webhook_endpoint_id}", **answers(objects.EndpointObject), **ADMIN)
def update_endpoint(
    webhook_endpoint_id: EndpointId, body: UpdateEndpoint, project: ProjectId
) -> dict[str, object]:
    """Change a webhook endpoint's name, URL or events."""
    return service.update(project, webhook_endpoint_id, body)


@router.delete("/webhook_endpoints/{webhook_endpoint_id}", **answers(objects.EndpointDeleted), **ADMIN)
def delete_endpoint(webhook_endpoint_id: EndpointId, project: ProjectId) -> dict[str, object]:
    """Delete a webhook endpoint.

    Nothing more is sent to it, not even pending deliveries.
    """
    service.delete(project, webhook_endpoint_id)
    return {"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}


@router.post(
    "/webhook_endpoints/{webhook_endpoint_id}/rotate_secret", **answers(objects.EndpointWithSecret), **ADMIN
)
def rotate_secret(
    webhook_endpoint_id: EndpointId, body: RotateSecret, project: ProjectId
) -> dict[str, object]:
    """Give a webhook endpoint a new secret.

    It is shown only now.
    """
    keep_old = body.keep_old_secret_active_for_24_hours
    return service.rotate_secret(project, webhook_endpoint_id, keep_old=keep_old)


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test", **answers(objects.TestResult), **ADMIN)
async def test_endpoint(
    webhook_endpoint_id: EndpointId, body: SampleEvent, project: ProjectId
) -> dict[str, object]:
    """Send a sample event to a webhook endpoint now.

    It is sent once; its job is called ``ftjob-test``, its run ``evalrun_test``.
    """
    endpoint, due = await run_in_threadpool(service.sample_for, project, webhook_endpoint_id, body.event_type)
    async with webhook_client() as client:
        status = await service.send_sample(client, due)
    return {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint,
        "event_type": body.event_type,
        "status_code": status,
        "success": True,
    }


@router.get(
    "/webhook_endpoints/{webhook_endpoint_id}/deliveries", **answers(ListOf[objects.DeliveryObject]), **READ
)
def list_deliveries(
    webhook_endpoint_id: EndpointId, project: ProjectId, after: After = None, limit: Limit = 20
) -> Response:
    """List a webhook endpoint's deliveries, sent and pending, newest first.

    Each has all of its attempts.
    """
    return page(service.deliveries(project, webhook_endpoint_id, after=after, limit=limit), limit)


@router.post(
    "/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/redeliver",
    **answers(objects.DeliveryObject),
    **ADMIN,
)
def redeliver(
    webhook_endpoint_id: EndpointId, delivery_id: DeliveryId, project: ProjectId
) -> dict[str, object]:
    """Send a delivery again, with as many attempts as a new one.

    It is the same event, with the same id, sent to the endpoint's current URL; a pending one is attempted
    at once.
    """
    return service.redeliver(project, webhook_endpoint_id, delivery_id)
