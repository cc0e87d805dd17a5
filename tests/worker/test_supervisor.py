"""A job from claim to end, with a real trainer process that follows a script."""

import csv
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from app.core.db import get_engine
from app.files.storage import path_of
from tests.fixtures.outages import Outage
from tests.fixtures.workers import Service, eventually
from worker.jobs.ending import Outcome
from worker.jobs.supervisor import run_next
from worker.reconciler import end_lost_attempts, reconcile
from worker.shutdown import Shutdown


def run(shutdown: Shutdown | None = None) -> Outcome | None:
    """Run the job that waits."""
    return run_next(f"test:{threading.get_ident()}", shutdown or Shutdown())


def group_members(pgid: int) -> list[int]:
    """Living processes of a group; zombies wait for init and hold nothing."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


def wait_for_step(service: Service, job_id: str, step: int) -> None:
    eventually(lambda: service.job(job_id).step >= step)


def child_of(service: Service, job_id: str) -> psutil.Process:
    file = service.run_dir(job_id) / "child.pid"
    return psutil.Process(int(eventually(lambda: file.is_file() and file.read_text())))


def test_a_run_to_the_end(service: Service) -> None:
    service.script(default={"checkpoint_every": 2})
    job_id = service.add_job(steps=3, suffix="mine")

    assert run() is Outcome.SUCCEEDED

    job = service.job(job_id)
    assert job.status == "succeeded" and job.error is None
    assert (job.step, job.total_steps, job.trained_tokens) == (3, 3, 30)
    assert job.fine_tuned_model == f"ft:tiny:policysplit:mine:{job_id.removeprefix('ftjob-')[:10]}"
    assert job.finished_at is not None and job.lease_owner is None
    assert service.points(job_id) == {1: 0.1, 2: 0.2, 3: 0.3}
    assert service.rollouts(job_id) == [(step, index) for step in (1, 2, 3) for index in (0, 1)]

    (file_id,) = job.result_files
    rows = list(csv.DictReader(path_of(file_id).read_text().splitlines()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [row["train_mean_reward"] for row in rows] == ["0.1", "0.2", "0.3"]
    assert rows[0]["completion_tokens_mean"] == "4.0" and rows[0]["full_valid_mean_reward"] == ""
    assert rows[0]["train/H/length"] == "5.0"

    metrics = service.events(job_id, "metrics")
    assert [event.data["step"] for event in metrics if event.data] == [1, 2, 3]
    assert metrics[2].data is not None and metrics[2].data["train_mean_reward"] == 0.3
    assert metrics[2].data["timing"]["step"]["full_iteration"] == 0.5
    assert metrics[2].data["values"]["train/H/length"] == 5.0
    texts = [event.message for event in service.events(job_id)]
    assert texts[0] == "The job has started." and "going on after step 0" in texts
    assert texts[-1].endswith(f"New fine-tuned model created: {job.fine_tuned_model}")
    (attempt,) = service.attempts(job_id)
    assert attempt.outcome == "succeeded" and attempt.ended_at is not None
    events_file = service.run_dir(job_id) / "events-1.jsonl"
    assert attempt.relayed_bytes == events_file.stat().st_size


def test_a_repeated_message_changes_nothing(service: Service, thread_pool: ThreadPoolExecutor) -> None:
    service.script(default={"hang_after": 1})
    job_id = service.add_job(steps=2)
    shutdown = Shutdown()
    first: Future[Outcome | None] = thread_pool.submit(run, shutdown)
    wait_for_step(service, job_id, 1)
    assert run() is None
    assert run() is None
    shutdown.request()
    assert first.result(20) is Outcome.RELEASED
    service.script(default={})
    assert run() is Outcome.SUCCEEDED
    before = service.events(job_id)
    assert run() is None
    assert len(service.events(job_id)) == len(before)
    assert service.job(job_id).attempt == 2


def test_a_run_with_too_few_steps_is_a_failure(local_service: Service) -> None:
    local_service.script(default={"finish_after": 2})
    job_id = local_service.add_job(steps=3)
    assert run() is Outcome.FAILED
    job = local_service.job(job_id)
    assert job.status == "failed" and job.fine_tuned_model is None
    assert job.error is not None and job.error["code"] == "incomplete_run"
    assert "step 2 of the 3" in job.error["message"]


def test_a_run_without_its_final_checkpoint_is_a_failure(local_service: Service) -> None:
    local_service.script(default={"final_checkpoint": False})
    job_id = local_service.add_job(steps=1)
    assert run() is Outcome.FAILED
    error = local_service.job(job_id).error
    assert error is not None and error["code"] == "checkpoint_missing"


def test_an_error_of_the_user_is_final(local_service: Service) -> None:
    fail = {"code": "invalid_data", "message": "Line 3 has no messages.", "param": "training_file"}
    local_service.script(default={"fail": fail})
    job_id = local_service.add_job()
    assert run() is Outcome.FAILED
    assert local_service.job(job_id).status == "failed"
    assert local_service.job(job_id).error == fail
    assert len(local_service.attempts(job_id)) == 1


@pytest.mark.parametrize(
    ("plan", "cause"),
    [
        ({"crash_after": 1, "crash_with": 3}, "exited with code 3"),
        ({"crash_after": 1, "crash_with": -int(signal.SIGKILL)}, "signal 9 (SIGKILL"),
        ({"fail": {"code": "internal_error", "message": "CUDA is unhappy"}}, "CUDA is unhappy"),
    ],
    ids=["exit", "kill", "internal"],
)
def test_crashes_are_tried_again_up_to_the_cap(
    local_service: Service, plan: dict, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service.settings, "max_attempts", 2)
    local_service.script(default=plan)
    job_id = local_service.add_job(steps=3)
    assert run() is Outcome.CRASHED
    assert local_service.job(job_id).status == "queued"
    assert run() is Outcome.CRASHED

    job = local_service.job(job_id)
    assert job.status == "failed" and job.error is not None
    assert job.error["code"] == "trainer_crashed" and cause in job.error["message"]
    attempts = local_service.attempts(job_id)
    assert [attempt.outcome for attempt in attempts] == ["crashed"] * 2
    if "crash_after" in plan:
        assert "about to crash after step 1" in (attempts[0].detail or "")


def test_a_crashed_job_waits_before_it_starts_again(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service.settings, "retry_backoff_seconds", 50.0)
    local_service.script(default={"crash_after": 1})
    job_id = local_service.add_job()
    waits = []
    for _ in range(2):
        assert run() is Outcome.CRASHED
        waits.append(local_service.job(job_id).not_before - time.time())
        assert run() is None, "it is not due"
        local_service.change(job_id, not_before=0.0)
    assert waits == [pytest.approx(50, abs=2), pytest.approx(100, abs=2)]


def test_after_a_crash_the_curve_has_no_gap_and_no_duplicate(service: Service) -> None:
    service.script(attempt_1={"checkpoint_every": 2, "crash_after": 3}, default={"repeat_events": True})
    job_id = service.add_job(steps=5)
    assert run() is Outcome.CRASHED
    assert run() is Outcome.SUCCEEDED
    assert service.points(job_id) == {step: step / 10 for step in range(1, 6)}
    assert service.rollouts(job_id) == [(step, index) for step in range(1, 6) for index in (0, 1)]
    steps = [event.data["step"] for event in service.events(job_id, "metrics") if event.data]
    assert steps == [1, 2, 3, 4, 5]


def test_lost_database_connections_lose_and_repeat_nothing(
    bare_service: Callable[[str, str], Service],
    outage: Outage,
    thread_pool: ThreadPoolExecutor,
    tmp_path: Path,
) -> None:
    service = bare_service(outage.url, f"redis+socket://{tmp_path / 'no-redis.sock'}")
    service.script(default={"step_seconds": 0.05, "checkpoint_every": 10})
    job_id = service.add_job(steps=60)
    running = thread_pool.submit(run)
    wait_for_step(service, job_id, 1)
    for _ in range(20):
        outage.disconnect_all()
        time.sleep(random.uniform(0.05, 0.2))  # now and then in the middle of a transaction

    assert running.result(60) is Outcome.SUCCEEDED
    assert sorted(service.points(job_id)) == list(range(1, 61))
    steps = [event.data["step"] for event in service.events(job_id, "metrics") if event.data]
    assert steps == list(range(1, 61))
    texts = [event.message for event in service.events(job_id)]
    assert len([text for text in texts if text.startswith("Checkpoint created")]) == 6
    assert len(texts) == 1 + 2 + 6 + 1, "started, begun, going on; checkpoints; succeeded"


def test_a_worker_that_is_cut_off_stops_its_trainer_when_the_lease_has_run_out(
    bare_service: Callable[[str, str], Service],
    outage: Outage,
    thread_pool: ThreadPoolExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = bare_service(outage.url, f"redis+socket://{tmp_path / 'no-redis.sock'}")
    monkeypatch.setattr(service.settings, "lease_seconds", 3.0)
    service.script(default={"hang_after": 1, "child": True, "ignore_sigterm": True})
    job_id = service.add_job()
    running = thread_pool.submit(run)
    wait_for_step(service, job_id, 1)
    group = os.getpgid(child_of(service, job_id).pid)

    outage.close()
    assert running.result(20) is None
    eventually(lambda: not group_members(group))
    outage.open()
    assert service.job(job_id).status == "running", "for a reconciler to find"
    reconcile()
    assert service.job(job_id).status == "queued"


def test_a_trainer_that_cannot_be_started(local_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_service.settings, "trainer_command", ["/nowhere/trainer"])
    monkeypatch.setattr(local_service.settings, "max_attempts", 1)
    job_id = local_service.add_job()
    assert run() is Outcome.CRASHED
    error = local_service.job(job_id).error
    assert error is not None and "/nowhere/trainer" in error["message"]


def test_cancel_ends_a_stubborn_trainer_and_its_child(
    service: Service, thread_pool: ThreadPoolExecutor
) -> None:
    service.script(default={"hang_after": 1, "ignore_sigterm": True, "child": True})
    job_id = service.add_job()
    running = thread_pool.submit(run)
    wait_for_step(service, job_id, 1)
    group = os.getpgid(child_of(service, job_id).pid)
    assert len(group_members(group)) == 2

    asked = time.monotonic()
    service.change(job_id, cancel_requested=True)
    running.result(20)
    assert time.monotonic() - asked < 5
    job = service.job(job_id)
    assert job.status == "cancelled" and job.finished_at is not None and job.error is None
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["cancelled"]
    eventually(lambda: not group_members(group))


def test_a_child_left_behind_by_a_finished_trainer_is_ended(local_service: Service) -> None:
    local_service.script(default={"child": True})
    job_id = local_service.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED
    pid = int((local_service.run_dir(job_id) / "child.pid").read_text())
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_trainer_that_hangs_after_its_result(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.jobs.supervisor.EXIT_SECONDS", 0.2)
    local_service.script(default={"linger": True})
    local_service.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED


def test_pause_leaves_a_checkpoint(service: Service, thread_pool: ThreadPoolExecutor) -> None:
    service.script(default={"hang_after": 2})
    job_id = service.add_job(steps=4)
    running = thread_pool.submit(run)
    wait_for_step(service, job_id, 2)
    service.change(job_id, pause_requested=True)
    assert running.result(20) is Outcome.PAUSED
    job = service.job(job_id)
    assert job.status == "paused" and job.lease_owner is None
    assert [event.message for event in service.events(job_id)][-2].startswith("Checkpoint created at step 2")

    service.change(job_id, status="queued")
    service.script(default={})
    assert run() is Outcome.SUCCEEDED
    assert "going on after step 2" in [event.message for event in service.events(job_id)]


def test_a_worker_that_stops_gives_the_job_back(
    local_service: Service, thread_pool: ThreadPoolExecutor
) -> None:
    attempts = range(1, local_service.settings.max_attempts + 2)
    local_service.script(**{f"attempt_{number}": {"hang_after": number} for number in attempts})
    job_id = local_service.add_job(steps=9)
    for attempt in attempts:
        shutdown = Shutdown()
        running = thread_pool.submit(run, shutdown)
        wait_for_step(local_service, job_id, attempt)
        shutdown.request()
        assert running.result(20) is Outcome.RELEASED
        job = local_service.job(job_id)
        assert (job.status, job.attempt, job.error) == ("queued", attempt, None)
        assert run(shutdown) is None, "a stopping worker claims nothing"


def test_a_worker_without_its_lease_stops_the_trainer_and_writes_nothing(
    service: Service, thread_pool: ThreadPoolExecutor
) -> None:
    service.script(default={"hang_after": 1, "child": True, "ignore_sigterm": True})
    job_id = service.add_job()
    running = thread_pool.submit(run)
    wait_for_step(service, job_id, 1)
    group = os.getpgid(child_of(service, job_id).pid)
    service.change(job_id, lease_expires_at=0.0)
    # The worker renews before long: take the job away the instant that the lease reads as expired.
    eventually(lambda: _take_away(service, job_id))
    count = len(service.events(job_id))

    assert running.result(20) is None
    eventually(lambda: not group_members(group))
    assert len(service.events(job_id)) == count
    assert service.job(job_id).status == "queued"
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["lost"]


def _take_away(service: Service, job_id: str) -> bool:
    service.change(job_id, lease_expires_at=0.0)
    reconcile()
    return service.job(job_id).status == "queued"


def test_a_slow_insert_does_not_lose_the_lease(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a lease: who holds the job's row is at work, and not lost."""
    if get_engine().dialect.name == "sqlite":
        pytest.skip("one writer at a time: an insert waits for nobody but the writer")
    monkeypatch.setattr(service.settings, "lease_seconds", 1.0)
    service.script(default={})
    job_id = service.add_job(steps=3)
    engine = get_engine()
    with ThreadPoolExecutor(1) as pool, engine.connect() as other, engine.connect() as observer:
        observer.execution_options(isolation_level="AUTOCOMMIT")
        other.exec_driver_sql("LOCK TABLE job_outcomes, rollouts, metric_points IN ACCESS EXCLUSIVE MODE")
        running = pool.submit(run)
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND query LIKE 'INSERT%%'"
        )
        eventually(lambda: observer.exec_driver_sql(waits).scalar_one() > 0)
        until = time.monotonic() + 3.0
        while time.monotonic() < until:  # what is to be seen is that nothing happens, for three leases
            end_lost_attempts()
            time.sleep(0.1)
        other.rollback()
        assert running.result(30) is Outcome.SUCCEEDED
    assert [attempt.outcome for attempt in service.attempts(job_id)] == ["succeeded"]
