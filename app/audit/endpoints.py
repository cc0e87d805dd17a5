"""``/v1/audit_log``."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from app.audit import service
from app.audit.schemas import AuditEntryObject
from app.audit.service import Filter
from app.core.audit import Change
from app.core.description import ListOf, answers
from app.core.paging import After, Limit, page
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN
from app.keys.asking import Asking

router = APIRouter(prefix="/v1", tags=["audit log"], route_class=StrictRoute)

Time = Annotated[int | None, Field(ge=0, le=1 << 40)]


@router.get("/audit_log", **answers(ListOf[AuditEntryObject]), **ADMIN)
def list_audit_log(
    caller: Asking,
    project_ids: Annotated[
        list[str] | None,
        Query(description="Changes in these; default: one's own, for the operator all"),
    ] = None,
    event_types: Annotated[list[Change] | None, Query(description="Changes of these kinds alone")] = None,
    actor_ids: Annotated[
        list[str] | None, Query(description="Changes by these keys, `key_…`, or addresses of people")
    ] = None,
    resource_ids: Annotated[list[str] | None, Query(description="Changes to what has these ids")] = None,
    since: Annotated[Time, Query(description="Changes at this time or later, Unix time")] = None,
    until: Annotated[Time, Query(description="Changes before this time, Unix time")] = None,
    after: After = None,
    limit: Limit = 20,
) -> Response:
    """List who changed what, newest first.

    Every change that a request or the operator on the machine has made. Secrets are not in it.
    """
    wanted = Filter(project_ids, event_types, actor_ids, resource_ids, since, until)
    return page(service.listing(caller, wanted, after=after, limit=limit), limit)
