"""Real ``python -m worker`` processes with a real Redis."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select, update

from app.core.db import read_session, write_session
from app.core.queue import QUEUE_NAME, announce, queue_length, send_wakeup
from app.core.tables import TrainingWorker
from tests.fixtures.broker import RedisServer
from tests.fixtures.engines import is_guard
from tests.fixtures.workers import REPOSITORY, Service, WorkerProcess, eventually

StartWorker = Callable[[], WorkerProcess]


def trainer_of(service: Service, job_id: str) -> psutil.Process:
    """The job's trainer process."""

    def find() -> psutil.Process | None:
        for process in psutil.process_iter():
            try:
                if str(service.run_dir(job_id)) in process.cmdline() and not is_guard(process):
                    return process
            except psutil.Error:
                continue
        return None

    return eventually(find)  # type: ignore[return-value]


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_message_runs_the_job_and_its_repetitions_do_nothing(
    queued_service: Service, start_worker: StartWorker
) -> None:
    job_id = queued_service.add_job(steps=2)
    assert announce(job_id)
    for _ in range(3):
        assert send_wakeup(job_id)
    assert send_wakeup("ftjob-unknown")
    worker = start_worker()
    queued_service.wait_for_status(job_id, "succeeded")
    eventually(lambda: queue_length() == 0)
    assert worker.stop() == 0
    assert queued_service.job(job_id).attempt == 1
    assert len(queued_service.events(job_id, "metrics")) == 2


def test_a_killed_worker_leaves_no_trainer_and_another_one_goes_on(
    queued_service: Service, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYSPLIT_LEASE_SECONDS", "3")
    queued_service.script(attempt_1={"checkpoint_every": 2, "hang_after": 5}, default={})
    job_id = queued_service.add_job(steps=8)
    announce(job_id)
    worker = start_worker()
    eventually(lambda: queued_service.job(job_id).step == 5)
    trainer = trainer_of(queued_service, job_id)

    worker.kill()
    eventually(lambda: is_gone(trainer), 5)
    start_worker()
    job = queued_service.wait_for_status(job_id, "succeeded")
    assert job.attempt == 2
    assert [attempt.outcome for attempt in queued_service.attempts(job_id)] == ["lost", "succeeded"]
    assert queued_service.points(job_id) == {step: step / 10 for step in range(1, 9)}
    steps = [event.data["step"] for event in queued_service.events(job_id, "metrics") if event.data]
    assert steps == list(range(1, 9))
    assert len(queued_service.rollouts(job_id)) == 16


def test_a_draining_worker_runs_on_and_takes_no_more(
    queued_service: Service, start_worker: StartWorker
) -> None:
    def only_worker() -> TrainingWorker | None:
        with read_session() as session:
            return session.scalars(select(TrainingWorker)).one_or_none()

    def drain(wanted: bool) -> None:
        with write_session() as session:
            session.execute(update(TrainingWorker).values(draining=wanted))

    queued_service.script(attempt_1={"hang_after": 2}, default={})
    first = queued_service.add_job(steps=3)
    announce(first)
    worker = start_worker()
    row = eventually(only_worker)
    assert row is not None and row.slots == queued_service.settings.worker_slots
    eventually(lambda: queued_service.job(first).step == 2)
    assert queued_service.job(first).lease_owner == row.id
    drain(True)
    queue = f"Canceling queue {QUEUE_NAME}"
    eventually(lambda: queue in worker.log.read_text())
    # Marked as announced from the start, so that the worker's reconciler sends no message of its own.
    second = queued_service.add_job(steps=3, enqueued_at=time.time())
    assert send_wakeup(second)
    # It hears of nothing: the message is still there when the first job is over.
    queued_service.change(first, cancel_requested=True)
    queued_service.wait_for_status(first, "cancelled")
    assert queued_service.job(second).status == "queued"
    assert queue_length() == 1
    drain(False)
    queued_service.script(default={})
    queued_service.wait_for_status(second, "succeeded")
    assert worker.stop() == 0
    assert only_worker() is None, "it takes its row with it"


def test_a_stopped_worker_gives_its_job_to_the_next(
    queued_service: Service, start_worker: StartWorker
) -> None:
    queued_service.script(attempt_1={"hang_after": 2}, default={})
    job_id = queued_service.add_job(steps=3)
    announce(job_id)
    worker = start_worker()
    eventually(lambda: queued_service.job(job_id).step == 2)
    trainer = trainer_of(queued_service, job_id)
    assert worker.stop() == 0
    assert is_gone(trainer)
    assert queued_service.job(job_id).status == "queued"
    assert queue_length() == 1, "the next worker is called at once"

    start_worker()
    queued_service.wait_for_status(job_id, "succeeded")
    assert [a.outcome for a in queued_service.attempts(job_id)] == ["released", "succeeded"]


def test_jobs_that_were_queued_without_a_broker_run_once_it_is_there(
    queued_service: Service,
    start_worker: StartWorker,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = tmp_path / "worker.ready"
    ready.write_text("1")  # of a worker that was killed
    monkeypatch.setenv("POLICYSPLIT_READY_FILE", str(ready))
    redis_server.stop()
    job_id = queued_service.add_job(steps=1)
    assert announce(job_id) is False
    worker = start_worker()
    eventually(lambda: not ready.exists())
    redis_server.start()
    queued_service.wait_for_status(job_id, "succeeded")
    assert ready.read_text() == str(worker.pid)


def test_a_busy_worker_takes_no_second_message(
    queued_service: Service, start_worker: StartWorker, redis_server: RedisServer
) -> None:
    queued_service.script(default={"hang_after": 1})
    first = queued_service.add_job(steps=2)
    announce(first)
    start_worker()
    eventually(lambda: queued_service.job(first).step == 1)
    # Marked as announced from the start, so that the worker's reconciler sends no message of its own.
    second = queued_service.add_job(steps=2, enqueued_at=time.time())
    assert send_wakeup(second)
    trainer_of(queued_service, first).send_signal(signal.SIGSTOP)
    queued_service.change(first, cancel_requested=True)
    # Until the first is dead, the message of the second stays where a free worker would find it.
    while queued_service.job(first).status == "running":
        assert queue_length() == 1
    eventually(lambda: queued_service.job(second).status == "running")
    with redis_server.client() as client:
        assert client.hlen("unacked") == 0


def test_a_worker_without_a_schema_says_so(queued_service: Service) -> None:
    empty = {**os.environ, "POLICYSPLIT_DATABASE_URL": f"sqlite:///{queued_service.settings.data_dir}/no.db"}
    result = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=REPOSITORY,
        env=empty,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "revision none" in result.stderr and "Traceback" not in result.stderr


def test_the_worker_imports_no_torch() -> None:
    code = (
        "import sys, worker.celery_app, worker.tasks, worker.__main__\n"
        "print(sorted({'torch', 'transformers'} & {name.split('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
