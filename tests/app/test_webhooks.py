"""Webhooks: what is told, to whom, signed how, and what happens when nobody listens."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from anyio.to_thread import current_default_thread_limiter
from openai.types.webhooks.webhook_endpoint import WebhookEndpoint as SdkEndpoint
from pydantic import TypeAdapter
from sqlalchemy import func, select

from app.core.db import read_session, write_session
from app.core.job_status import JobStatus
from app.core.outbound import post
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, Job, WebhookAttempt, WebhookDelivery
from app.jobs.status import change_status
from app.webhooks.deliverer import deliver_for_ever, purge, take_due
from app.webhooks.repository import take
from app.webhooks.sending import webhook_client, webhook_reach
from tests.fixtures.api import Api, Keyed, create_job, on_postgresql, on_sqlite, sums
from tests.fixtures.http_server import dripping
from tests.fixtures.receivers import Delivery, Receiver
from tests.fixtures.workers import eventually
from trainer.system.addresses import Reach, Refused

SECONDS = 20
EVENTS: Any = [
    *("fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"),
    *("eval.run.succeeded", "eval.run.failed", "eval.run.canceled"),
]


@pytest.fixture
def api_environment(api_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An API that may reach this machine, and does not wait long."""
    monkeypatch.setenv("POLICYSPLIT_WEBHOOK_ALLOWED_HOSTS", '["127.0.0.1"]')
    monkeypatch.setenv("POLICYSPLIT_WEBHOOK_RETRY_SECONDS", "[0.05, 0.05]")
    monkeypatch.setenv("POLICYSPLIT_WEBHOOK_POLL_SECONDS", "0.05")
    get_settings.cache_clear()
    yield api_environment


@pytest.fixture
def job_id(client: openai.OpenAI, api: Api) -> str:
    return create_job(client, api, api.upload(client, sums())).id


def end(job_id: str, status: JobStatus) -> None:
    with write_session() as session:
        job = session.get_one(Job, job_id)
        if status is not JobStatus.CANCELLED:
            change_status(session, job, JobStatus.RUNNING, message="runs")
        change_status(session, job, status, message="over")


def unwrapped(client: openai.OpenAI, delivery: Delivery, secret: str) -> Any:
    return client.webhooks.unwrap(delivery.body, delivery.headers, secret=secret)


def log_of(api: Api, endpoint: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{api.url}/v1/webhook_endpoints/{endpoint}/deliveries")
    return answer.json()["data"]


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_the_sdk_unwraps_what_arrives(
    client: openai.OpenAI, api: Api, job_id: str, receiver: Receiver, status: JobStatus
):
    endpoint = client.webhooks.create(name="ci", url=receiver.url, event_types=EVENTS)
    end(job_id, status)
    delivery = receiver.arrived.get(timeout=SECONDS)
    event = unwrapped(client, delivery, endpoint.signing_secret)
    assert (event.type, event.object, event.data.id) == (f"fine_tuning.job.{status}", "event", job_id)
    assert delivery.path == "/hook?a=b"
    assert delivery.headers["content-type"] == "application/json"
    assert event.id == delivery.headers["webhook-id"]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(client, delivery, "whsec_" + "A" * 44)
    (logged,) = eventually(lambda: [one for one in log_of(api, endpoint.id) if one["attempts"]])
    assert (logged["status"], logged["event_id"], logged["next_attempt_at"]) == ("delivered", event.id, None)
    assert [one["status_code"] for one in logged["attempts"]] == [200]


@on_sqlite
def test_a_failed_delivery_is_tried_again_with_the_same_id(
    client: openai.OpenAI, api: Api, job_id: str, receiver: Receiver
):
    receiver.statuses = [500, 302]
    endpoint = client.webhooks.create(name="ci", url=receiver.url, event_types=EVENTS)
    end(job_id, JobStatus.SUCCEEDED)
    deliveries = [receiver.arrived.get(timeout=SECONDS) for _ in range(3)]
    assert len({one.headers["webhook-id"] for one in deliveries}) == 1
    assert len({one.body for one in deliveries}) == 1
    assert unwrapped(client, deliveries[-1], endpoint.signing_secret).data.id == job_id
    (logged,) = eventually(lambda: [one for one in log_of(api, endpoint.id) if one["status"] == "delivered"])
    assert [one["status_code"] for one in logged["attempts"]] == [500, 302, 200], "no redirect is followed"


@on_sqlite
@pytest.mark.parametrize(("statuses", "attempts"), [([500] * 9, 3), ([410], 1)])
def test_in_the_end_it_is_given_up(
    client: openai.OpenAI, api: Api, job_id: str, receiver: Receiver, statuses: list[int], attempts: int
):
    receiver.statuses = statuses
    endpoint = client.webhooks.create(name="ci", url=receiver.url, event_types=EVENTS)
    end(job_id, JobStatus.FAILED)
    (logged,) = eventually(lambda: [one for one in log_of(api, endpoint.id) if one["status"] == "failed"])
    assert len(logged["attempts"]) == attempts
    assert logged["next_attempt_at"] is None


@on_sqlite
def test_only_what_was_asked_for_and_only_the_own_projects(keyed: Keyed, receiver: Receiver):
    job_id = create_job(keyed.owner, keyed.api, keyed.api.upload(keyed.owner, sums())).id
    for client, types in ((keyed.owner, EVENTS[:1]), (keyed.stranger, EVENTS)):
        client.webhooks.create(name="x", url=receiver.url, event_types=types)
    end(job_id, JobStatus.CANCELLED)
    with read_session() as session:
        assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 0


def test_neither_the_status_nor_its_delivery_is_without_the_other(
    client: openai.OpenAI, job_id: str, receiver: Receiver
):
    client.webhooks.create(name="x", url=receiver.url, event_types=EVENTS)
    with pytest.raises(ZeroDivisionError), write_session() as session:
        change_status(session, session.get_one(Job, job_id), JobStatus.CANCELLED, message="over")
        raise ZeroDivisionError
    with read_session() as session:
        assert session.get_one(Job, job_id).status == "queued"
        assert session.scalar(select(func.count()).select_from(WebhookDelivery)) == 0


def test_a_delivery_is_taken_once_and_again_when_its_taker_died(
    api_environment: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """No API runs here: this process is two of them."""
    from app.webhooks import deliverer

    _leave_deliveries(1)
    monkeypatch.setattr(deliverer, "HOLD_SECONDS", 0.0)
    first = take_due(10)
    second = take_due(10)
    assert [one.attempts for one in first + second] == [1, 2], "its hold ran out"
    monkeypatch.setattr(deliverer, "HOLD_SECONDS", 60.0)
    assert len(take_due(10)) == 1
    assert take_due(10) == []


@on_postgresql
def test_two_processes_take_deliveries_at_the_same_time(api_environment: Path, database_url: str):
    """SQLite has one writer at a time, whoever it is."""
    _leave_deliveries(3)
    with write_session() as session:
        one = take(session, 1, 60.0)
        others = take_due(10)  # waits for no lock of the first, which is not committed
        assert (len(one), len(others)) == (1, 2)
    assert len({due.id for due in one + others}) == 3
    assert take_due(10) == []


def _leave_deliveries(count: int) -> None:
    from app.webhooks import service
    from app.webhooks.outbox import announce_end
    from app.webhooks.schemas import CreateEndpoint

    request = CreateEndpoint(name="x", url="https://example.org/x", event_types=EVENTS)
    service.create(DEFAULT_PROJECT, request)
    with write_session() as session:
        for number in range(count):
            announce_end(session, DEFAULT_PROJECT, "fine_tuning.job.failed", f"ftjob-{number}", time.time())


@on_sqlite
def test_endpoints_through_the_sdk(client: openai.OpenAI, api: Api, receiver: Receiver):
    webhooks = client.webhooks
    assert webhooks.event_types.list().data == EVENTS
    made = [webhooks.create(name=f"n{n}", url=receiver.url, event_types=EVENTS) for n in range(3)]
    assert made[0].signing_secret.startswith("whsec_")
    ids = [one.id for one in made]
    assert [one.id for one in webhooks.list(limit=2)] == ids[::-1]
    text = httpx.get(f"{api.url}/v1/webhook_endpoints/{ids[0]}").text
    TypeAdapter(SdkEndpoint).validate_json(text, strict=True)
    assert made[0].signing_secret not in text
    assert set(SdkEndpoint.model_fields) <= json.loads(text).keys()

    changed = webhooks.update(ids[0], name="renamed", event_types=EVENTS[:1])
    assert (changed.name, changed.event_types, changed.url) == ("renamed", EVENTS[:1], receiver.url)
    result = webhooks.test(ids[0], event_type=EVENTS[0])
    assert (result.status_code, result.success) == (200, True)
    sample = receiver.arrived.get(timeout=SECONDS)
    assert unwrapped(client, sample, made[0].signing_secret).data.id == "ftjob-test"
    webhooks.test(ids[0], event_type=EVENTS[3])
    sample = receiver.arrived.get(timeout=SECONDS)
    assert unwrapped(client, sample, made[0].signing_secret).data.id == "evalrun_test"

    rotated = webhooks.rotate_secret(ids[0], keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made[0].signing_secret
    webhooks.test(ids[0], event_type=EVENTS[0])
    sample = receiver.arrived.get(timeout=SECONDS)
    for secret in (made[0].signing_secret, rotated.signing_secret):
        assert unwrapped(client, sample, secret)
    newest = webhooks.rotate_secret(ids[0])
    webhooks.test(ids[0], event_type=EVENTS[0])
    sample = receiver.arrived.get(timeout=SECONDS)
    assert unwrapped(client, sample, newest.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrapped(client, sample, rotated.signing_secret)

    assert webhooks.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError, match=ids[0]):
        webhooks.retrieve(ids[0])


@on_sqlite
def test_bad_endpoints_are_refused(client: openai.OpenAI, receiver: Receiver):
    for url in ("ftp://example.org", "https://10.0.0.1/x", "http://example.org/", "https://u:p@example.org"):
        with pytest.raises(openai.BadRequestError, match="'url'"):
            client.webhooks.create(name="x", url=url, event_types=EVENTS)
    wrong: Any = ["batch.completed"]
    with pytest.raises(openai.BadRequestError, match=r"fine_tuning\.job\.succeeded"):
        client.webhooks.create(name="x", url=receiver.url, event_types=wrong)
    endpoint = client.webhooks.create(name="x", url="http://127.0.0.1:9/", event_types=EVENTS)
    with pytest.raises(openai.BadRequestError, match="did not answer"):
        client.webhooks.test(endpoint.id, event_type=EVENTS[0])


FORBIDDEN = [
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/",  # 10.0.0.1 behind NAT64
    "https://[2002:a00:1::1]/",  # and by 6to4
    "https://169.254.169.254/latest/meta-data",
    "https://192.168.1.1",
    "https://100.64.0.1",
    "https://0.0.0.0",
    "https://[fd00::1]/",
    "https://localhost/",
    "https://a.localhost/",
    "https://224.0.0.1/",
    "http://example.org/",
    "https://user@example.org/",
    "https://example.org:99999/",
    "https://example.org/ x",
    "https:///x",
    "https://[::1",
    "https://xn--\u0378.example/",
    "https://example.org/\x7f",
    "https://" + "a" * 3000,
]


@pytest.mark.parametrize("url", FORBIDDEN)
def test_private_addresses_are_out_of_reach(url: str):
    with pytest.raises(Refused):
        webhook_reach().check_url(url)


def test_a_name_is_checked_by_the_address_that_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch):
    """The resolver says that a public name is here: the connection is not made."""

    async def everything_is_here(*_args: Any, **_options: Any) -> list[Any]:
        return [(2, 1, 6, "", ("127.0.0.1", 0))]

    async def ask(allowed: list[str]) -> int:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", everything_is_here, raising=False)
        url = receiver.url.replace(
            "http://127.0.0.1", "http://internal.example" if allowed else "https://x.org"
        )
        async with httpx.AsyncClient(trust_env=False) as client:
            reach = Reach(frozenset(allowed), "POLICYSPLIT_WEBHOOK_ALLOWED_HOSTS", plain=False)
            return await post(client, url, content="{}", headers={}, reach=reach, seconds=SECONDS)

    # Not which address: a name of a private network is not looked up for users.
    with pytest.raises(Refused, match=r"^x\.org does not have a public address; .*WEBHOOK_ALLOWED"):
        asyncio.run(ask([]))
    assert receiver.arrived.empty()
    assert asyncio.run(ask(["internal.example"])) == 200, "unless the operator allows the host"
    assert receiver.arrived.get(timeout=SECONDS).headers["host"].startswith("internal.example:")


def test_an_endpoint_that_drips_is_given_up():
    """A byte now and then keeps every single read short of any limit; the attempt's own limit holds."""

    async def ask(netloc: str) -> None:
        reach = Reach(frozenset((netloc,)), "POLICYSPLIT_WEBHOOK_ALLOWED_HOSTS", plain=False)
        async with webhook_client() as client:
            await post(client, f"http://{netloc}/", content="{}", headers={}, reach=reach, seconds=0.5)

    with (
        dripping(b"HTTP/1.1 200 OK\r\nx: ") as netloc,
        pytest.raises(httpx.ReadTimeout, match=r"no answer within 0\.5 s"),
    ):
        asyncio.run(ask(netloc))


@on_sqlite
def test_attempts_go_with_their_endpoint(client: openai.OpenAI, job_id: str, receiver: Receiver):
    endpoint = client.webhooks.create(name="x", url=receiver.url, event_types=EVENTS)
    end(job_id, JobStatus.CANCELLED)
    receiver.arrived.get(timeout=SECONDS)

    def attempts() -> int | None:
        with read_session() as session:
            return session.scalar(select(func.count()).select_from(WebhookAttempt))

    eventually(attempts)
    client.webhooks.delete(endpoint.id)
    assert attempts() == 0


@on_sqlite
def test_a_delivery_is_made_again_when_asked_for(
    client: openai.OpenAI, api: Api, job_id: str, receiver: Receiver
):
    """The same event, once more; one of another endpoint is not there."""
    endpoint = client.webhooks.create(name="x", url=receiver.url, event_types=EVENTS)
    other = client.webhooks.create(name="y", url=receiver.url, event_types=EVENTS[:1]).id
    end(job_id, JobStatus.FAILED)
    first = receiver.arrived.get(timeout=SECONDS)
    eventually(lambda: [one for one in log_of(api, endpoint.id) if one["status"] == "delivered"], SECONDS)
    path = f"deliveries/{log_of(api, endpoint.id)[0]['id']}/redeliver"
    assert httpx.post(f"{api.url}/v1/webhook_endpoints/{other}/{path}").status_code == 404
    again = httpx.post(f"{api.url}/v1/webhook_endpoints/{endpoint.id}/{path}").json()
    assert (again["status"], len(again["attempts"])) == ("pending", 1)
    second = receiver.arrived.get(timeout=SECONDS)
    assert (second.headers["webhook-id"], second.body) == (first.headers["webhook-id"], first.body)
    assert unwrapped(client, second, endpoint.signing_secret).data.id == job_id
    told = eventually(lambda: [o for o in log_of(api, endpoint.id) if o["status"] == "delivered"], SECONDS)
    assert [len(one["attempts"]) for one in told] == [2]


@on_sqlite
def test_old_deliveries_leave_the_log_once_they_are_over(
    client: openai.OpenAI, api: Api, job_id: str, receiver: Receiver
):
    endpoint = client.webhooks.create(name="x", url=receiver.url, event_types=EVENTS).id
    end(job_id, JobStatus.SUCCEEDED)
    eventually(lambda: [one for one in log_of(api, endpoint) if one["status"] == "delivered"], SECONDS)
    assert purge() == 0
    month = 30 * 24 * 3600
    with write_session() as session:
        row = session.scalars(select(WebhookDelivery)).one()
        row.created_at -= month + 60
        row.next_attempt_at = time.time() + month
    assert purge() == 0, "it is still to be sent"
    with write_session() as session:
        session.scalars(select(WebhookDelivery)).one().next_attempt_at = None
    assert purge() == 1
    assert log_of(api, endpoint) == []
    with read_session() as session:
        assert session.scalar(select(func.count()).select_from(WebhookAttempt)) == 0


async def _stop_while_the_database_is_locked() -> None:
    threads = current_default_thread_limiter()
    with write_session() as session:
        session.connection()
        deliveries = asyncio.create_task(deliver_for_ever())
        while not threads.borrowed_tokens:
            await asyncio.sleep(0.01)
        deliveries.cancel()
        over, _ = await asyncio.wait([deliveries], timeout=0.3)
        assert not over, "a thread still waits for the lock"
    with pytest.raises(asyncio.CancelledError):
        await deliveries
    assert threads.borrowed_tokens == 0


@on_sqlite
def test_deliveries_that_are_stopped_end_with_their_threads(api_environment: Path):
    """One that went on would use the database of a closed API."""
    asyncio.run(_stop_while_the_database_is_locked())
