"""``/v1/usage`` and ``/v1/prices``."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from app.core.description import answers, answers_text
from app.core.errors import BadRequest
from app.core.requests import StrictRoute
from app.core.scopes import ADMIN, READ
from app.core.spreadsheets import harmless
from app.keys.access import seen_of
from app.keys.asking import Asking, Operator
from app.usage import service
from app.usage.prices import PriceListObject, SetPrices
from app.usage.schemas import UsagePage
from app.usage.service import GROUPS, SUMS, Group, Wanted

router = APIRouter(prefix="/v1", tags=["usage"], route_class=StrictRoute)
_LATEST = 1 << 33

StartTime = Annotated[
    int | None,
    Query(
        ge=0,
        le=_LATEST,
        description="Start, Unix time in seconds, rounded down to a day; default: start of this month",
    ),
]
EndTime = Annotated[
    int | None,
    Query(ge=1, le=_LATEST, description="End, Unix time in seconds; default: now. Days are always whole"),
]
GroupBy = Annotated[
    list[Group] | None, Query(description="Fields to group by within a day: projects, jobs, models, modes")
]
ProjectIds = Annotated[
    list[str] | None, Query(description="Only these projects; default: your own, or all for the operator")
]
JobIds = Annotated[list[str] | None, Query(description="Only these jobs, including deleted ones")]


@router.get("/usage", **answers(UsagePage), **READ)
def get_usage(
    caller: Asking,
    start_time: StartTime = None,
    end_time: EndTime = None,
    group_by: GroupBy = None,
    project_ids: ProjectIds = None,
    job_ids: JobIds = None,
    limit: Annotated[int, Query(ge=1, le=180, description="Days per page")] = 31,
    page: Annotated[str | None, Query(description="next_page of the previous page")] = None,
) -> dict[str, object]:
    """Get usage by day (UTC), and its cost.

    GPU-seconds of all attempts, including failed ones, tokens, gradings, requests, storage. A running job's
    usage is added every minute.
    """
    wanted = _wanted(caller, start_time, end_time, group_by, project_ids, job_ids)
    if page is not None:
        wanted = _from_page(wanted, page)
    return service.buckets(wanted, limit=limit)


@router.get("/usage.csv", **answers_text("A table", "text/csv"), **READ)
def get_usage_table(
    caller: Asking,
    start_time: StartTime = None,
    end_time: EndTime = None,
    group_by: GroupBy = None,
    project_ids: ProjectIds = None,
    job_ids: JobIds = None,
) -> Response:
    """Get usage as a table, one line for each day and group."""
    wanted = _wanted(caller, start_time, end_time, group_by, project_ids, job_ids)
    headers = {"content-disposition": 'attachment; filename="usage.csv"'}
    return StreamingResponse(_lines(wanted), media_type="text/csv", headers=headers)


@router.get("/prices", **answers(PriceListObject), **READ)
def get_prices() -> dict[str, object]:
    """Get the price list in force."""
    return service.prices_now()


@router.post("/prices", **answers(PriceListObject), **ADMIN)
def set_prices(body: SetPrices, caller: Operator) -> dict[str, object]:
    """Set the prices from a given day on, as the operator.

    Earlier usage keeps the prices of its own day.
    """
    return service.set_prices(caller, body)


def _wanted(
    caller: Asking,
    start_time: int | None,
    end_time: int | None,
    group_by: list[Group] | None,
    project_ids: list[str] | None,
    job_ids: list[str] | None,
) -> Wanted:
    first, last = service.days_of(start_time, end_time)
    groups: list[Group] = [one for one in GROUPS if one in (group_by or ())]
    return Wanted(first, last, groups, seen_of(caller, project_ids or ()), job_ids or ())


def _from_page(wanted: Wanted, page: str) -> Wanted:
    try:
        service.start_of(page)
    except ValueError:
        page = ""
    if not wanted.first <= page <= wanted.last:
        raise BadRequest(
            f"Invalid value for 'page': {page!r}. Give next_page of the previous page, with the same times.",
            param="page",
        )
    return replace(wanted, first=page)


def _lines(wanted: Wanted) -> Iterator[str]:
    names = [*wanted.group_by, *SUMS, "storage_bytes"]
    yield _line(["day", *names, "amount", "currency"])
    for day, result in service.results(wanted):
        amount = result["amount"] or {"value": "", "currency": ""}
        yield _line([day, *(result[name] for name in names), amount["value"], amount["currency"]])


def _line(values: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(harmless(one) for one in values)
    return text.getvalue()
