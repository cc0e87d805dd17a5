"""Lost messages and lost workers are put right, by any number of reconcilers at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.queue import QUEUE_NAME, announce, queue_length
from app.core.settings import Settings
from tests.fixtures.broker import RedisServer
from tests.fixtures.workers import Service
from worker.reconciler import announce_waiting, reconcile


def lose(service: Service, job_id: str) -> None:
    """A worker claims the job and is never heard of again."""
    service.claim(job_id, "lost")
    service.change(job_id, lease_expires_at=time.time() - 1)


def test_a_message_that_was_not_sent_is_sent_once(queued_service: Service) -> None:
    job_id = queued_service.add_job()
    later = queued_service.add_job(not_before=time.time() + 3600)
    queued_service.add_job(status="paused")
    assert announce_waiting() == 1
    assert announce_waiting() == 0
    assert queue_length() == 1
    assert queued_service.job(job_id).enqueued_at is not None
    assert queued_service.job(later).enqueued_at is None


def test_a_broker_that_is_down_gets_the_message_when_it_is_back(
    queued_service: Service, redis_server: RedisServer
) -> None:
    redis_server.stop()
    job_id = queued_service.add_job()
    assert announce(job_id) is False
    assert announce_waiting() == 0
    assert queued_service.job(job_id).enqueued_at is None
    redis_server.start()
    assert announce_waiting() == 1
    assert queue_length() == 1


def test_lost_messages_are_sent_again_and_waiting_ones_are_not(
    queued_service: Service, redis_server: RedisServer
) -> None:
    jobs = [queued_service.add_job() for _ in range(5)]
    assert announce_waiting() == 5
    long_ago = time.time() - queued_service.settings.wakeup_resend_seconds - 1
    for number, job_id in enumerate(jobs):
        queued_service.change(job_id, enqueued_at=long_ago + number / 10)
    assert announce_waiting() == 0, "five jobs, five messages: the workers are busy"
    with redis_server.client() as client:
        client.delete(QUEUE_NAME)
    assert announce_waiting() == 5
    assert queue_length() == 5


def test_a_lost_attempt_is_ended_by_one_of_many_reconcilers(service: Service) -> None:
    job_id = service.add_job()
    lose(service, job_id)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: reconcile(), range(4)))
    job = service.job(job_id)
    assert (job.status, job.lease_owner) == ("queued", None)
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["lost"]
    texts = [event.message for event in service.events(job_id)]
    assert len(texts) == 2 and "its worker lost has not been heard from" in texts[1]


def test_a_living_lease_is_left_alone(service: Service) -> None:
    job_id = service.add_job()
    service.claim(job_id, "alive")
    reconcile()
    assert service.job(job_id).status == "running"


def test_a_job_that_loses_every_worker_fails(service: Service) -> None:
    job_id = service.add_job()
    for _ in range(service.settings.max_attempts):
        assert service.job(job_id).status == "queued"
        lose(service, job_id)
        reconcile()
    job = service.job(job_id)
    assert job.status == "failed" and job.error is not None
    assert job.error["code"] == "worker_lost" and "3 times" in job.error["message"]


@pytest.mark.parametrize("status", ["running", "pausing"])
def test_a_cancelled_job_without_a_worker_is_cancelled(service: Service, status: str) -> None:
    job_id = service.add_job()
    lose(service, job_id)
    service.change(job_id, cancel_requested=True, status=status)
    reconcile()
    assert service.job(job_id).status == "cancelled"


def test_a_queued_job_with_the_flag_is_cancelled(service: Service) -> None:
    job_id = service.add_job(cancel_requested=True)
    reconcile()
    assert service.job(job_id).status == "cancelled"


def test_a_lost_pause_is_made_up_for(service: Service) -> None:
    job_id = service.add_job()
    lose(service, job_id)
    service.change(job_id, pause_requested=True, status="pausing")
    reconcile()
    job = service.job(job_id)
    assert (job.status, job.pause_requested) == ("queued", True)


def test_by_default_a_dead_worker_is_noticed_within_thirty_seconds() -> None:
    default = {name: field.default for name, field in Settings.model_fields.items()}
    assert default["lease_seconds"] + default["reconcile_seconds"] < 30
    assert default["heartbeat_seconds"] * 3 < default["lease_seconds"], "two lost heartbeats lose no lease"
