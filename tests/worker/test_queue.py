"""Sending wake-up messages, and what happens when the broker does not play along."""

import json
import time

import pytest

from app.core.queue import QUEUE_NAME, TASK_NAME, broker_alive, queue_length, send_wakeup
from app.core.settings import get_settings
from tests.fixtures.broker import RedisServer
from tests.fixtures.workers import Service


def test_the_message_says_nothing_but_that_a_job_waits(
    queued_service: Service, redis_server: RedisServer
) -> None:
    assert broker_alive()
    assert send_wakeup("ftjob-1")
    assert queue_length() == 1
    with redis_server.client() as client:
        message = json.loads(client.lindex(QUEUE_NAME, 0))  # type: ignore[arg-type]
    assert message["headers"]["task"] == TASK_NAME
    assert message["headers"]["argsrepr"] == "()"
    assert message["content-type"] == "application/json"


def test_a_broker_that_is_down_is_no_exception(
    queued_service: Service, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    began = time.monotonic()
    assert send_wakeup("ftjob-1") is False
    assert broker_alive() is False
    assert queue_length() is None
    assert time.monotonic() - began < 2
    assert "ftjob-1 was not sent" in caplog.text
    redis_server.start()
    assert send_wakeup("ftjob-1") is True


def test_no_password_in_the_log(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(get_settings(), "broker_url", "redis://:secret@127.0.0.1:1/0")
    assert send_wakeup("ftjob-1") is False
    assert "127.0.0.1:1" in caplog.text and "secret" not in caplog.text
