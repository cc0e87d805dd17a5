"""``/metrics``."""

from fastapi import APIRouter, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.core.counting import told
from app.core.description import answers_text
from app.core.scopes import READ, ScopedRoute
from app.keys.asking import Operator
from app.monitoring.service import ServiceCollector

router = APIRouter(tags=["monitoring"], route_class=ScopedRoute)


@router.get("/metrics", **answers_text("The metrics", "text/plain"), **READ)
def scrape(_caller: Operator) -> Response:
    """Get the service's metrics in Prometheus' text format, as the operator.

    The queue by project, workers with slots and GPUs, the pace and rewards of running jobs,
    and requests by route. What comes from the database is the same in every API process.
    """
    body = told() + generate_latest(ServiceCollector())
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)
