"""What was used, day by day, and what it costs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.accounting.counting import Amounts, day_of
from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest
from app.core.strict_json import JsonObject
from app.core.tables import PriceList, Usage
from app.keys.repository import Caller
from app.usage.prices import Prices, SetPrices, lists_until, view

Group = Literal["project_id", "job_id", "model", "mode"]
GROUPS: tuple[Group, ...] = get_args(Group)
_NOTHING = vars(Amounts())
SUMS = tuple(_NOTHING)
_BEGINNING = "1970-01-01"


@dataclass(frozen=True)
class Wanted:
    """Whose use, of which days, and how it is divided. ``first`` to ``last``: days, both included."""

    first: str
    last: str
    group_by: Sequence[Group] = ()
    project_ids: Sequence[str] = ()
    job_ids: Sequence[str] = ()


def days_of(start_time: int | None, end_time: int | None) -> tuple[str, str]:
    """The first and the last day (UTC) of a span of time; without a start this month."""
    now = time.time()
    last = day_of(now if end_time is None else max(0, end_time - 1))
    first = f"{last[:7]}-01" if start_time is None else day_of(start_time)
    if first > last:
        raise BadRequest(
            f"Invalid value for 'end_time': {end_time}. It should be after start_time, {start_time}.",
            param="end_time",
        )
    return first, last


def results(wanted: Wanted) -> Iterator[tuple[str, JsonObject]]:
    """Each day with each of its groups' results, in order; days without any use are left out."""
    with read_session() as session:
        rows = session.execute(_query(wanted)).all()
        lists = lists_until(session, wanted.last)
    for row in rows:
        # Sums of whole numbers are PostgreSQL's numerics.
        used = Amounts(**{name: type(nothing)(getattr(row, name)) for name, nothing in _NOTHING.items()})
        prices = next((one for one in lists if one.since <= row.day), None)
        stored = int(row.storage_bytes or 0)
        # What all of a project's jobs and files take is on its own row: that of a job is part of it.
        whole = stored if "job_id" not in wanted.group_by or not row.job_id else 0
        yield (
            row.day,
            {
                "object": "usage.result",
                **{
                    name: (getattr(row, name) or None) if name in wanted.group_by else None for name in GROUPS
                },
                "seconds": round(used.seconds, 3),
                "gpu_seconds": round(used.gpu_seconds, 3),
                **{name: int(getattr(used, name)) for name in SUMS if not name.endswith("seconds")},
                "storage_bytes": stored,
                "amount": _amount(prices, used, whole),
            },
        )


def _query(wanted: Wanted) -> Any:
    columns = [getattr(Usage, name) for name in wanted.group_by]
    stored: Any = Usage.storage_bytes
    if "job_id" not in wanted.group_by:
        stored = case((Usage.job_id == "", stored), else_=0)
    sums = [func.sum(getattr(Usage, name)).label(name) for name in SUMS]
    query = select(Usage.day, *columns, *sums, func.sum(stored).label("storage_bytes")).where(
        Usage.day >= wanted.first, Usage.day <= wanted.last
    )
    for column, among in ((Usage.project_id, wanted.project_ids), (Usage.job_id, wanted.job_ids)):
        if among:
            query = query.where(column.in_(among))
    return query.group_by(Usage.day, *columns).order_by(Usage.day, *columns)


def _amount(prices: PriceList | None, used: Amounts, storage_bytes: int) -> dict[str, object] | None:
    if prices is None:
        return None
    value = Prices.model_validate(prices.prices).amount(used, storage_bytes)
    return {"value": round(value, 6), "currency": prices.currency.lower()}


def buckets(wanted: Wanted, *, limit: int) -> dict[str, object]:
    """Up to ``limit`` days, each with its results, as the hosted service's usage has them."""
    last_shown = min(wanted.last, _later(wanted.first, limit - 1))
    found: dict[str, list[JsonObject]] = {}
    for day, result in results(replace(wanted, last=last_shown)):
        found.setdefault(day, []).append(result)
    more = last_shown < wanted.last
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": start_of(day),
                "end_time": start_of(_later(day, 1)),
                "results": found.get(day, []),
            }
            for day in _days(wanted.first, last_shown)
        ],
        "has_more": more,
        "next_page": _later(last_shown, 1) if more else None,
    }


def start_of(day: str) -> int:
    """When a day begins, Unix time."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def _later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def _days(first: str, last: str) -> Iterator[str]:
    day = first
    while day <= last:
        yield day
        day = _later(day, 1)


def prices_now() -> dict[str, object]:
    """The price list that is in force today."""
    with read_session() as session:
        return view(_in_force(session))


def set_prices(caller: Caller, request: SetPrices) -> dict[str, object]:
    """Set a price list from a day on; one of the same day is replaced."""
    try:
        since = None if request.since is None else date.fromisoformat(request.since).isoformat()
    except ValueError:
        raise BadRequest(
            f"Invalid value for 'since': '{request.since}' is not a date. Give one such as 2026-12-01.",
            param="since",
        ) from None
    prices = request.model_dump(exclude={"currency", "since"})
    with write_session() as session:
        if since is None:
            since = day_of(time.time()) if lists_until(session, "9999-12-31") else _BEGINNING
        row = session.merge(PriceList(since=since, currency=request.currency, prices=prices))
        record(session, "prices.updated", since, caller.project_id, currency=request.currency, **prices)
        return view(row)


def _in_force(session: Session) -> PriceList | None:
    return next(iter(lists_until(session, day_of(time.time()))), None)
