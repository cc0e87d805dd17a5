"""Jobs of several slots, with a real worker and real trainers: each slot of a CPU host is a rank."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.core.queue import announce
from app.core.settings import get_settings
from app.core.store.remote import remote
from app.core.store.runs import stored_states
from tests.fixtures.runs import tiny_spec, write_rows
from tests.fixtures.workers import Service, WorkerProcess, eventually
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Event, Started, StepMetrics, read_events
from trainer.spec.resources import Resources
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec
from worker.jobs.launcher import fewer_text

SECONDS = 120.0


@pytest.fixture
def ranked(real_service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service whose workers have two slots."""
    for name, value in {"WORKER_SLOTS": "2", "STOP_GRACE_SECONDS": "5", "RESERVE_SECONDS": "0"}.items():
        monkeypatch.setenv(f"POLICYSPLIT_{name}", value)
    get_settings.cache_clear()
    return real_service


@pytest.fixture
def add(ranked: Service, tiny_model: Path, tmp_path: Path) -> Callable[..., str]:
    """Adds a job of two ranks, and some steps."""
    data = write_rows(tmp_path / "rows.jsonl")

    def add(steps: int, gpus: int = 2, min_gpus: int | None = None, **columns: object) -> str:
        resources = Resources(gpus=gpus, min_gpus=min_gpus).as_started()
        spec = tiny_spec(
            tiny_model,
            data,
            validation_data=None,
            rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=2, max_response_tokens=4),
            evaluation=EvaluationSpec(),
            diagnostics=DiagnosticsSpec(interval=0),
            checkpoint=CheckpointSpec(interval=2),
            total_steps=steps,
            resources=resources,
        )
        stored = spec.model_dump(mode="json")
        job_id = ranked.add_job(steps, stored, wanted_gpus=gpus, least_gpus=gpus, **columns)
        announce(job_id)
        return job_id

    return add


def ranks_of(service: Service, job_id: str, attempt: int) -> list[psutil.Process]:
    """The job's trainers by rank: each has a file for its stacks open."""
    folder = service.run_dir(job_id)
    wanted = [str(folder / f"stacks-{attempt}{end}.txt") for end in ("", "-rank1")]
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found |= {file.path: process for file in process.open_files() if file.path in wanted}
    return [found[path] for path in wanted]


def log_of(service: Service, job_id: str, attempt: int = 1) -> str:
    return (service.run_dir(job_id) / f"trainer-{attempt}.log").read_text(errors="replace")


def test_two_ranks_are_paused_resumed_and_finish(
    ranked: Service, add: Callable[..., str], start_worker: Callable[[], WorkerProcess]
) -> None:
    job_id = add(steps=6)
    start_worker()
    eventually(lambda: ranked.job(job_id).step >= 1, SECONDS)
    assert (ranked.job(job_id).held_gpus, ranked.job(job_id).gpus) == (2, 0)
    ranked.change(job_id, pause_requested=True)
    paused = ranked.wait_for_status(job_id, "paused", SECONDS)
    assert 1 <= paused.step <= 6
    ranked.change(job_id, status="queued")
    announce(job_id)
    ranked.wait_for_status(job_id, "succeeded", SECONDS)
    assert [one.outcome for one in ranked.attempts(job_id)] == ["paused", "succeeded"]
    assert sorted(ranked.points(job_id)) == list(range(1, 7))
    assert all(f"[rank {rank}] " in log_of(ranked, job_id) for rank in range(2))


def test_a_killed_rank_ends_the_attempt_and_the_next_one_goes_on_until_it_is_cancelled(
    ranked: Service,
    add: Callable[..., str],
    start_worker: Callable[[], WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("POLICYSPLIT_TRAINER_COMMAND")  # all that it starts is below its worker
    job_id = add(steps=10_000)
    worker = start_worker()
    # A state is written while training goes on.
    states = ranked.run_dir(job_id) / "state"
    eventually(lambda: any(int(one.name[5:]) >= 2 for one in states.glob("step-*")), SECONDS)
    ranks = ranks_of(ranked, job_id, 1)
    killed_at = time.time()
    ranks[1].kill()
    first = eventually(lambda: [one for one in ranked.attempts(job_id) if one.ended_at], 60)[0]
    assert first.ended_at is not None and first.ended_at - killed_at < 30
    assert (first.outcome, first.cause) == ("crashed", "lost_rank")
    assert first.message == f"rank 1 on {socket.gethostname()} has died"
    assert not any(one.is_running() for one in ranks)
    reached = ranked.job(job_id).step
    eventually(lambda: ranked.job(job_id).step > reached, SECONDS)
    told = read_events(ranked.run_dir(job_id) / "events-2.jsonl")
    assert next(one.step for one, _ in told if isinstance(one, Started)) >= 2, "from its last state"
    family = psutil.Process(worker.pid).children(recursive=True)
    assert len(family) >= 5, "a guard of two, the launcher, two ranks"
    asked = time.monotonic()
    ranked.change(job_id, cancel_requested=True)
    ranked.wait_for_status(job_id, "cancelled", 20)
    eventually(lambda: not [one for one in family if one.is_running() and one.status() != "zombie"], 5)
    assert time.monotonic() - asked < 10


def test_a_large_job_gets_its_turn_among_small_ones(
    ranked: Service, add: Callable[..., str], start_worker: Callable[[], WorkerProcess]
) -> None:
    """Small jobs keep coming, and one slot at a time becomes free: both are needed together."""
    small = [add(steps=1, gpus=1, created_at=float(n)) for n in range(2)]
    large = add(steps=1, created_at=10.0)
    small += [add(steps=1, gpus=1, created_at=20.0 + n) for n in range(2)]
    start_worker()
    ranked.wait_for_status(large, "succeeded", SECONDS)
    began = {one: ranked.attempts(one)[0].started_at for one in [large, *small[:2]]}
    assert all(began[one] < began[large] for one in small[:2])
    for later in small[2:]:
        ranked.wait_for_status(later, "succeeded", SECONDS)
    if any("is reserved for the job" in event.message for event in ranked.events(large)):
        # Its turn came while slots were taken, as it does unless both small jobs ended at once.
        assert all(ranked.attempts(one)[0].started_at > began[large] for one in small[2:])


@pytest.mark.usefixtures("bucket")
def test_after_a_loss_a_host_with_less_goes_on_from_a_state_in_the_store(
    ranked: Service,
    add: Callable[..., str],
    start_worker: Callable[[], WorkerProcess],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The hosts share nothing but database and store. Of the last state the second rank's part is torn there,
    which is found by its hash, and the one before it is taken, by one rank where two had written it."""
    monkeypatch.setenv("POLICYSPLIT_RETRY_BACKOFF_SECONDS", "600")
    job_id = add(steps=10_000, min_gpus=1)
    first = start_worker()
    eventually(lambda: len(stored_states(job_id)) == 2, SECONDS)
    ranks_of(ranked, job_id, 1)[1].kill()
    attempt = eventually(lambda: [one for one in ranked.attempts(job_id) if one.ended_at], 60)[0]
    assert (attempt.outcome, attempt.cause) == ("crashed", "lost_rank")
    first.stop()
    before, newest = sorted(states := stored_states(job_id))
    store = remote()
    assert store is not None
    store.put_bytes(states[newest].object_path(f"state/step-{newest}/__1_0.distcp"), b"torn")

    monkeypatch.setenv("POLICYSPLIT_WORKER_SLOTS", "1")
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(tmp_path / "another host"))
    get_settings.cache_clear()
    ranked.change(job_id, not_before=0.0)
    announce(job_id)
    start_worker()
    told = ranked.run_dir(job_id) / "events-2.jsonl"

    def went_on() -> list[Event]:
        events = [event for event, _ in read_events(told)] if told.exists() else []
        return events if any(isinstance(one, StepMetrics) and one.step > before for one in events) else []

    events = eventually(went_on, SECONDS)
    assert next(one.step for one in events if isinstance(one, Started)) == before
    messages = [one.message for one in ranked.events(job_id)]
    assert any("__1_0.distcp" in one and one.endswith("The state before it is taken.") for one in messages)
    assert fewer_text(Resources(gpus=2), 1) in messages
    assert ranked.job(job_id).held_gpus == 1
    ranked.change(job_id, cancel_requested=True)
    ranked.wait_for_status(job_id, "cancelled", 20)
