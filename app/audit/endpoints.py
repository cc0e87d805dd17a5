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
        Query(description="Only changes in these projects; default: your own, or all for the operator"),
    ] = None,
    event_types: Annotated[list[Change] | None, Query(description="Only changes of these types")] = None,
    actor_ids: Annotated[
        list[str] | None, Query(description="Only changes by these keys, `key_…`, or email addresses")
    ] = None,
    resource_ids: Annotated[
        list[str] | None, Query(description="Only changes to resources with these ids")
    ] = None,
    since: Annotated[Time, Query(description="Changes at or after this time, Unix time in seconds")] = None,
    until: Annotated[Time, Query(description="Changes before this time, Unix time in seconds")] = None,
    after: After = None,
    limit: Limit = 20,
) -> Response:
    """List who changed what, newest first.

    Every change made by a request, or by the operator on the machine. It contains no secrets.
    """
    wanted = Filter(project_ids, event_types, actor_ids, resource_ids, since, until)
    return page(service.listing(caller, wanted, after=after, limit=limit), limit)
