"""What a project may use: refused in words when it comes, paused when it runs, and nothing lost."""

import time
from typing import Any

import httpx
import openai
import pytest

from app.accounting.counting import Amounts, Place, add, day_of
from app.accounting.limits import next_month
from app.core.db import write_session
from app.core.job_status import JobStatus
from app.core.tables import DEFAULT_PROJECT, Job
from app.keys.schemas import ProjectObject
from app.keys.service import create_key
from app.usage.service import start_of
from tests.app.test_key_routes import ask, refused
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums
from tests.fixtures.described import check_described
from worker.jobs import clock, holding


def limit(api: Api, key: str | None = None, **limits: Any) -> httpx.Response:
    return ask(api, "POST", f"/projects/{DEFAULT_PROJECT}", key, {"limits": limits})


def use_gpu_hours(hours: float) -> None:
    with write_session() as session:
        add(
            session, Place(DEFAULT_PROJECT, day_of(time.time()), "ftjob-x"), Amounts(gpu_seconds=hours * 3600)
        )


def test_only_the_operator_sets_limits(keyed: Keyed) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    operator = create_key("operator", DEFAULT_PROJECT, operator=True)[1]
    refused(limit(api, mine, jobs=5), 403, "operator")
    refused(limit(api, operator, jobs=-1), 400, "jobs")
    refused(limit(api, operator, gpu_hours_per_month="many"), 400, "gpu_hours_per_month")
    refused(ask(api, "POST", "/projects/proj_x", operator, {"name": "x"}), 404, "proj_x")
    taken = ask(api, "POST", f"/projects/{DEFAULT_PROJECT}", operator, {"name": "Strangers"})
    refused(taken, 409, keyed.stranger_project)
    answer = limit(api, operator, jobs=5, gpu_hours_per_month=1.5)
    check_described(ProjectObject, answer.text)
    limits = {"jobs": 5, "gpu_hours_per_month": 1.5, "storage_bytes": None, "requests_per_minute": None}
    assert answer.json()["limits"] == limits
    assert ask(api, "GET", f"/projects/{DEFAULT_PROJECT}", mine).json()["limits"] == limits
    refused(ask(api, "GET", f"/projects/{DEFAULT_PROJECT}", keyed.secrets[1]), 404, "No such project")
    assert set(limit(api, operator).json()["limits"].values()) == {None}


@on_sqlite
def test_jobs_at_a_time_and_storage(api: Api, client: openai.OpenAI) -> None:
    file = api.upload(client, sums())
    limit(api, jobs=0)
    with pytest.raises(openai.PermissionDeniedError, match="would exceed the limit of 0"):
        create_job(client, api, file)
    limit(api, jobs=1)
    job = create_job(client, api, file)
    with pytest.raises(openai.PermissionDeniedError, match="would exceed the limit of 1") as error:
        create_job(client, api, file)
    assert error.value.code == "quota_exceeded"
    client.fine_tuning.jobs.cancel(job.id)
    create_job(client, api, file)
    limit(api, storage_bytes=10)
    for refuse in (lambda: api.upload(client, sums()), lambda: create_job(client, api, file)):
        with pytest.raises(openai.PermissionDeniedError, match="its limit is 10"):
            refuse()
    assert client.files.retrieve(file).id == file, "what was there stays"


def test_gpu_hours_of_a_month(api: Api, client: openai.OpenAI) -> None:
    """Used up they refuse what is new or resumed, and pause what runs: it can be resumed next month."""
    file = api.upload(client, sums())
    limit(api, gpu_hours_per_month=2)
    use_gpu_hours(1.5)
    running, waiting = create_job(client, api, file), create_job(client, api, file)
    claim = holding.claim_next("worker-1")
    assert claim is not None and claim.id == running.id
    with write_session() as session:
        job = session.get_one(Job, claim.id)
        job.status, job.stepped_at = JobStatus.RUNNING.value, time.time()
        clock.count_use(session, claim)
    assert client.fine_tuning.jobs.retrieve(running.id).status == "running"
    use_gpu_hours(0.5)
    with write_session() as session:
        clock.count_use(session, claim)
    with write_session() as session:
        job = session.get_one(Job, claim.id)
        assert (job.status, job.pause_requested) == (JobStatus.PAUSING.value, True)
    events = client.fine_tuning.jobs.list_events(running.id).data
    assert "used 2.00 GPU-hours this month; its limit is 2" in events[0].message
    with pytest.raises(openai.PermissionDeniedError, match="The next month begins on") as error:
        create_job(client, api, file)
    wait = int(error.value.response.headers["retry-after"])
    assert abs(time.time() + wait - next_month(time.time())) < 60
    client.fine_tuning.jobs.pause(waiting.id)
    with pytest.raises(openai.PermissionDeniedError, match="GPU-hours this month"):
        client.fine_tuning.jobs.resume(waiting.id)
    limit(api, gpu_hours_per_month=3)
    assert client.fine_tuning.jobs.resume(waiting.id).status == "queued"


def test_months() -> None:
    assert next_month(start_of("2026-12-31")) == start_of("2027-01-01")
    assert next_month(start_of("2028-02-01")) == start_of("2028-03-01")


@on_sqlite
def test_requests_of_all_keys_together(keyed: Keyed) -> None:
    operator = create_key("operator", keyed.stranger_project, operator=True)[1]
    assert limit(keyed.api, operator, requests_per_minute=6).is_success
    keys = [create_key(f"k{n}", DEFAULT_PROJECT)[1] for n in range(2)]
    answers = [ask(keyed.api, "GET", "/models", keys[n % 2]) for n in range(8)]
    assert [one.status_code for one in answers] == [200] * 6 + [429] * 2
    refused(answers[-1], 429, "The project's keys may send 6 requests per minute")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
