"""What was used and what it costs: the sums against their rows, whoever adds, and each second once."""

import asyncio
import csv
import io
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.accounting.counting import (
    Amounts,
    Place,
    add,
    by_day,
    count_attempt,
    day_of,
    note_storage,
    uncounted,
)
from app.accounting.meter import Meter
from app.core.db import read_session, write_session
from app.core.tables import DEFAULT_PROJECT, Job, JobAttempt, Usage
from app.keys.service import create_key
from app.usage.prices import PriceListObject, Prices
from app.usage.schemas import UsagePage
from app.usage.service import GROUPS, SUMS, start_of
from tests.app.test_key_routes import ask, refused
from tests.fixtures.api import Api, Keyed, create_job, forget, on_sqlite, sums
from tests.fixtures.described import check_described
from worker.jobs import holding
from worker.jobs.causes import Cause
from worker.jobs.ending import Ending, Outcome, end_attempt

DAYS = ("2026-11-27", "2026-11-28", "2026-11-29")
SPAN = f"start_time={start_of(DAYS[0])}&end_time={start_of('2026-11-30')}"


def _some(dice: random.Random, projects: list[str]) -> tuple[Place, Amounts]:
    place = Place(
        dice.choice(projects),
        dice.choice(DAYS),
        dice.choice(("", "ftjob-a", "ftjob-b")),
        dice.choice(("tiny", "ft:x")),
        dice.choice(("", "normal")),
    )
    # Quarters add up without an error in any order.
    seconds, gpu_seconds = (dice.randrange(100) / 4 for _ in range(2))
    return place, Amounts(seconds, gpu_seconds, *(dice.randrange(1 << 40) for _ in SUMS[2:]))


def test_sums_are_those_of_all_that_was_added_by_several_at_once(keyed: Keyed) -> None:
    dice = random.Random(7)
    added = [_some(dice, [DEFAULT_PROJECT, keyed.stranger_project]) for _ in range(160)]

    def write(some: list[tuple[Place, Amounts]]) -> None:
        for place, amounts in some:
            with write_session() as session:
                add(session, place, amounts)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, [added[n::4] for n in range(4)]))
    operator = create_key("operator", DEFAULT_PROJECT, operator=True)[1]
    for groups in ((), ("project_id",), ("job_id", "mode"), GROUPS):
        query = "".join(f"&group_by={one}" for one in groups)
        answer = ask(keyed.api, "GET", f"/usage?{SPAN}{query}", operator)
        check_described(UsagePage, answer.text)
        for bucket in answer.json()["data"]:
            day = day_of(bucket["start_time"])
            expected: dict[tuple[str | None, ...], Amounts] = {}
            for place, amounts in added:
                if place.day == day:
                    key = tuple(getattr(place, one) or None for one in groups)
                    known = expected.setdefault(key, Amounts())
                    known += amounts
            found = {
                tuple(one[name] for name in groups): Amounts(**{name: one[name] for name in SUMS})
                for one in bucket["results"]
            }
            assert found == expected, (groups, day)


def test_who_sees_what_pages_and_the_table(keyed: Keyed) -> None:
    mine, theirs = keyed.secrets
    with write_session() as session:
        add(
            session, Place(DEFAULT_PROJECT, DAYS[0], "ftjob-a", "=1+1"), Amounts(gpu_seconds=90.0, gradings=3)
        )
        add(session, Place(keyed.stranger_project, DAYS[1]), Amounts(requests=2))
        note_storage(session, Place(DEFAULT_PROJECT, DAYS[2]), 700)
        note_storage(session, Place(DEFAULT_PROJECT, DAYS[2]), 500)
        note_storage(session, Place(DEFAULT_PROJECT, DAYS[2], "ftjob-a"), 400)
    first = ask(keyed.api, "GET", f"/usage?{SPAN}&limit=2", mine).json()
    assert [one["start_time"] for one in first["data"]] == [start_of(day) for day in DAYS[:2]]
    assert first["data"][0]["results"][0]["gradings"] == 3 and not first["data"][1]["results"]
    rest = ask(keyed.api, "GET", f"/usage?{SPAN}&limit=2&page={first['next_page']}", mine).json()
    assert [one["storage_bytes"] for one in rest["data"][0]["results"]] == [700] and not rest["has_more"]
    by_job = ask(keyed.api, "GET", f"/usage?{SPAN}&group_by=job_id&page={DAYS[2]}", mine).json()
    stored = {one["job_id"]: one["storage_bytes"] for one in by_job["data"][0]["results"]}
    assert stored == {None: 700, "ftjob-a": 400}
    table = ask(keyed.api, "GET", f"/usage.csv?{SPAN}&group_by=model", mine)
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(one["day"], one["model"], one["gpu_seconds"]) for one in rows] == [
        (DAYS[0], "'=1+1", "90.0"),
        (DAYS[2], "", "0.0"),
    ], "what a spreadsheet would compute is text"
    assert {(one["amount"], one["currency"]) for one in rows} == {("", "")}, "there are no prices"
    other = f"/usage?{SPAN}&project_ids={keyed.stranger_project}"
    refused(ask(keyed.api, "GET", other, mine), 404, "No such project")
    assert ask(keyed.api, "GET", other, theirs).json()["data"][1]["results"][0]["requests"] == 2
    refused(ask(keyed.api, "GET", "/usage?group_by=user", mine), 400, "project_id")
    backwards = f"/usage?start_time={start_of(DAYS[1])}&end_time={start_of(DAYS[0])}"
    refused(ask(keyed.api, "GET", backwards, mine), 400, "after start_time")
    refused(ask(keyed.api, "GET", f"/usage?{SPAN}&page=tomorrow", mine), 400, "next_page")


def test_costs_are_those_of_the_day(keyed: Keyed) -> None:
    mine = keyed.secrets[0]
    operator = create_key("operator", DEFAULT_PROJECT, operator=True)[1]
    with write_session() as session:
        for day in DAYS:
            used = Amounts(gpu_seconds=7200.0, trained_tokens=500_000)
            add(session, Place(DEFAULT_PROJECT, day, "ftjob-a"), used)
    none = ask(keyed.api, "GET", "/prices", mine)
    check_described(PriceListObject, none.text)
    assert none.json()["currency"] is None
    refused(ask(keyed.api, "POST", "/prices", mine, {"currency": "EUR"}), 403, "operator")
    refused(ask(keyed.api, "POST", "/prices", operator, {"currency": "euro"}), 400, "currency")
    refused(ask(keyed.api, "POST", "/prices", operator, {"currency": "EUR", "gpu_hour": -1}), 400, "gpu_hour")
    day = {"currency": "EUR", "since": "2026-02-31"}
    refused(ask(keyed.api, "POST", "/prices", operator, day), 400, "2026-02-31")
    first = ask(keyed.api, "POST", "/prices", operator, {"currency": "EUR", "gpu_hour": 2.0}).json()
    assert first["since"] == "1970-01-01", "the first is of all that was before"
    later = {"currency": "EUR", "gpu_hour": 3.0, "million_trained_tokens": 4.0, "since": DAYS[1]}
    assert ask(keyed.api, "POST", "/prices", operator, later).is_success
    data = ask(keyed.api, "GET", f"/usage?{SPAN}&job_ids=ftjob-a", mine).json()["data"]
    assert [one["results"][0]["amount"] for one in data] == [
        {"value": value, "currency": "eur"} for value in (4.0, 8.0, 8.0)
    ]
    # Each price of one unit of its thing is the price.
    unit = Amounts(3600.0, 3600.0, 10**6, 0, 1000, 0, 10**6, 10**6)
    prices = Prices(
        gpu_hour=1, hour=2, million_trained_tokens=4, million_input_tokens=8, million_output_tokens=16,
        thousand_gradings=32, storage_gb_month=64,
    )  # fmt: skip
    assert prices.amount(unit, 30 * 10**9) == pytest.approx(127)


def _claimed(api: Api, client: Any) -> holding.Claim:
    create_job(client, api, api.upload(client, sums()))
    claim = holding.claim_next("worker-1")
    assert claim is not None
    return claim


def _seconds() -> dict[str, tuple[float, float]]:
    with read_session() as session:
        rows = session.scalars(select(Usage).where(Usage.job_id != ""))
        return {row.day: (row.seconds, row.gpu_seconds) for row in rows}


def tell(session: Session, job_id: str, told: Amounts) -> None:
    """As the relay does with what steps told."""
    row = JobAttempt.job_id == job_id, JobAttempt.attempt == 1
    session.execute(update(JobAttempt).where(*row).values(**uncounted(told)))


def test_each_second_and_token_of_an_attempt_counts_once(api: Api, client: Any) -> None:
    """Also over midnight, whichever attempt's file told of a token, and where the worker was lost."""
    claim = _claimed(api, client)
    began, until = start_of(DAYS[1]) - 100.0, start_of(DAYS[1]) + 50.0
    with write_session() as session:
        session.get_one(JobAttempt, (claim.id, 1)).started_at = began
        count_attempt(session, session.get_one(Job, claim.id))
    assert _seconds() == {}, "nobody knows yet how many GPUs these are of"
    with write_session() as session:
        job = session.get_one(Job, claim.id)
        job.gpus, job.stepped_at, job.lease_expires_at = 2, began, until
        tell(session, claim.id, Amounts(trained_tokens=30, sampled_tokens=20, gradings=4))
        count_attempt(session, job, until=began + 40)
        tell(session, claim.id, Amounts(trained_tokens=3))
        count_attempt(session, job, until=began + 40)
    assert _seconds()[DAYS[0]] == (40.0, 80.0)
    with write_session() as session:
        # The worker was lost at ``until``, and nobody noticed for days.
        lost = Ending(Outcome.LOST, "it is gone", Cause.LOST_HOST)
        end_attempt(session, session.get_one(Job, claim.id), lost)
    assert _seconds() == {DAYS[0]: (100.0, 200.0), DAYS[1]: (50.0, 100.0)}
    with read_session() as session:
        rows = session.scalars(select(Usage).where(Usage.job_id == claim.id)).all()
        names = ("trained_tokens", "sampled_tokens", "gradings")
        told = [sum(getattr(row, name) for row in rows) for name in names]
    assert told == [33, 20, 4]


def test_a_span_is_divided_at_midnight() -> None:
    start = start_of("2026-12-31") + 86_399.5
    assert list(by_day(start, start + 86_401)) == [
        ("2026-12-31", 0.5),
        ("2027-01-01", 86_400.0),
        ("2027-01-02", 0.5),
    ]
    assert list(by_day(start, start)) == []


@on_sqlite
def test_requests_are_added_up_and_none_is_lost(
    api_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two API processes, of which one cannot reach the database for a while."""

    async def use() -> None:
        meters = Meter(), Meter()
        for meter in meters:
            for _ in range(3):
                meter.answered(DEFAULT_PROJECT, "tiny", "normal", 10, 7)
            meter.graded(DEFAULT_PROJECT, 2)
        await meters[0].write()
        with monkeypatch.context() as away:
            away.setenv("DATABASE_URL", f"sqlite:///{api_environment / 'nowhere' / 'x.db'}")
            forget()
            await meters[1].write()
        forget()
        await meters[1].write()
        await meters[1].write()

    asyncio.run(use())
    with read_session() as session:
        rows = {(row.model, row.mode): row for row in session.scalars(select(Usage))}
    asked = rows["tiny", "normal"]
    assert (asked.requests, asked.input_tokens, asked.output_tokens) == (6, 60, 42)
    assert rows["", ""].gradings == 4 and {row.day for row in rows.values()} == {day_of(time.time())}
