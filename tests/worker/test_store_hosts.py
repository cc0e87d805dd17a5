"""Workers on hosts of their own: nothing is shared but the database and the store."""

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.db import read_session, write_session
from app.core.gpus import memories
from app.core.settings import get_settings
from app.core.store.artefacts import keep, local
from app.core.store.errors import Damaged
from app.core.store.remote import remote
from app.core.store.runs import link_state, send_state, stored_states
from app.core.tables import Checkpoint, File, TrainingWorker
from app.files.storage import local_path
from tests.fixtures.object_store import Faults, FaultyS3
from tests.fixtures.workers import Service, eventually, relay_of
from trainer.spec.events import CheckpointRemoved, CheckpointSaved, EventWriter
from trainer.system.host_memory import host_memory
from worker.intake import Intake
from worker.jobs.ending import Outcome
from worker.jobs.launcher import events_name
from worker.jobs.places import restore
from worker.jobs.room import Room
from worker.jobs.supervisor import run_next
from worker.jobs.uploads import Uploads
from worker.lease import Claim
from worker.registration import Registration
from worker.shutdown import Shutdown
from worker.sweeping import sweep


@pytest.fixture
def hosts(local_service: Service, bucket: str) -> Service:
    """A service whose worker's host the test changes with :func:`move`."""
    get_settings.cache_clear()
    return local_service


def move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's host, from now on, with nothing on its disk."""
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(folder))
    get_settings.cache_clear()
    return folder


def run(shutdown: Shutdown | None = None) -> Outcome | None:
    return run_next(f"test:{threading.get_ident()}", shutdown or Shutdown())


def places(job_id: str) -> dict[int, str]:
    with read_session() as session:
        rows = session.execute(select(Checkpoint.step, Checkpoint.path).where(Checkpoint.job_id == job_id))
        return dict(rows.all())


def stored(prefix: str) -> list[str]:
    store = remote()
    assert store is not None
    return [one.path for one in store.list(prefix)]


def test_a_run_leaves_all_it_made_in_the_store(
    hosts: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.script(default={"checkpoint_every": 2})
    job_id = hosts.add_job(steps=3)
    assert run() is Outcome.SUCCEEDED
    assert not hosts.run_dir(job_id).exists()
    found = places(job_id)
    assert sorted(found) == [2, 3] and all(place.startswith("store:runs/") for place in found.values())

    move(tmp_path / "another", monkeypatch)
    manifest = json.loads((local(found[3]) / "policysplit.json").read_text())
    assert manifest["step"] == 3
    with read_session() as session:
        (result,) = session.scalars(select(File))
    rows = list(csv.DictReader(io.StringIO(local_path(result).read_text())))
    assert [row["step"] for row in rows] == ["1", "2", "3"]


def test_another_host_goes_on_with_a_job(
    hosts: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread_pool: ThreadPoolExecutor
) -> None:
    hosts.script(attempt_1={"hang_after": 3, "checkpoint_every": 2}, default={})
    job_id = hosts.add_job(steps=5)
    shutdown = Shutdown()
    first = thread_pool.submit(run, shutdown)
    eventually(lambda: 2 in places(job_id))
    eventually(lambda: hosts.job(job_id).step >= 3)
    shutdown.request()
    assert first.result(60) is Outcome.RELEASED

    move(tmp_path / "another", monkeypatch)
    assert run() is Outcome.SUCCEEDED
    assert "going on after step 3" in [event.message for event in hosts.events(job_id)]
    assert sorted(places(job_id)) == [2, 3, 5]
    assert hosts.points(job_id) == pytest.approx({step: step / 10 for step in range(1, 6)})


def test_a_store_that_is_away_holds_rows_back_and_not_the_training(
    hosts: Service, faulty_s3: FaultyS3, thread_pool: ThreadPoolExecutor
) -> None:
    monkey = Faults(times=10**6, status=403, code="AccessDenied")
    faulty_s3.faults = monkey
    hosts.script(default={"checkpoint_every": 1})
    job_id = hosts.add_job(steps=2)
    running = thread_pool.submit(run)
    told = eventually(
        lambda: [e for e in hosts.events(job_id) if "needs" in e.message or "need permission" in e.message]
    )
    assert told[0].level == "warn" and places(job_id) == {}
    monkey.times = 0
    assert running.result(120) is Outcome.SUCCEEDED
    assert sorted(places(job_id)) == [1, 2]
    assert hosts.job(job_id).status == "succeeded"


def test_a_job_that_waits_for_the_store_can_be_cancelled(
    hosts: Service, faulty_s3: FaultyS3, thread_pool: ThreadPoolExecutor
) -> None:
    fault = Faults(times=10**6, method="PUT", status=403, code="AccessDenied")
    faulty_s3.faults = fault
    hosts.script(default={"checkpoint_every": 1})
    job_id = hosts.add_job(steps=2)
    running = thread_pool.submit(run)
    eventually(lambda: [e for e in hosts.events(job_id) if "need permission" in e.message])
    hosts.change(job_id, cancel_requested=True)
    assert running.result(60) is Outcome.CANCELLED
    fault.times = 0
    # What was not sent stays on the disk.
    assert hosts.job(job_id).status == "cancelled" and places(job_id) == {}


def begin(service: Service) -> tuple[Claim, Path]:
    claim = service.claim(service.add_job(steps=100))
    run_dir = service.run_dir(claim.id)
    run_dir.mkdir(parents=True)
    return claim, run_dir


def save_state(run_dir: Path, step: int) -> None:
    folder = run_dir / "state" / f"step-{step}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(f"{step}")
    (run_dir / "run.json").write_text("{}")


def test_a_workers_row_says_how_full_its_hosts_cache_is_and_how_much_memory_it_has(
    hosts: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYSPLIT_STORE_CACHE_BYTES", "1000000")
    get_settings.cache_clear()
    hosts.script(default={"checkpoint_every": 1})
    job_id = hosts.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED
    size = sum(path.stat().st_size for path in local(places(job_id)[1]).parent.rglob("*") if path.is_file())
    registration = Registration("me", Intake(), Room())
    registration.start(Shutdown())

    def told() -> dict[str, int] | None:
        with read_session() as session:
            return session.scalar(select(TrainingWorker.cache))

    try:
        cache = eventually(told)
        with read_session() as session:
            memory = session.scalar(select(TrainingWorker.memory))
    finally:
        registration.stop()
    # What a trainer on it would measure.
    assert memory == {"host_bytes": host_memory(), "gpu_bytes": memories(get_settings())}
    # The result's file is in it, too.
    assert cache is not None and cache["limit_bytes"] == 1_000_000 and cache["bytes"] >= size > 0


def test_a_state_goes_up_after_the_events_before_it(
    hosts: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, run_dir = begin(hosts)
    events, wake = run_dir / events_name(1), threading.Event()
    events.write_bytes(b"x" * 100)
    uploads = Uploads(claim.id, run_dir, wake)
    for step in (4, 6, 8):
        save_state(run_dir, step)
        uploads.look_for_state(events, relayed=99)
        assert step not in stored_states(claim.id)
        uploads.look_for_state(events, relayed=100)
        eventually(lambda: not uploads.pending)
        # Of those before it only the last is left.
        assert sorted(stored_states(claim.id)) == [one for one in (4, 6, 8) if step - 2 <= one <= step]
    uploads.close()

    other = move(tmp_path / "another", monkeypatch) / "runs" / claim.id
    restore(claim.id, other)
    assert (other / "state" / "step-8" / "state.json").read_text() == "8" and (other / "run.json").is_file()
    # A host with a later one of its own keeps it.
    save_state(other, 9)
    restore(claim.id, other)
    assert sorted(path.name for path in (other / "state").iterdir()) == ["step-8", "step-9"]


def test_a_damaged_state_is_passed_over_and_replaced_when_its_step_is_done_again(
    hosts: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, run_dir = begin(hosts)
    for step in (4, 6):
        save_state(run_dir, step)
        send_state(claim.id, step, link_state(run_dir, step))
    store, states = remote(), stored_states(claim.id)
    assert store is not None
    store.put_bytes(states[6].object_path("state/step-6/state.json"), b"x")

    other = move(tmp_path / "another", monkeypatch) / "runs" / claim.id
    (note,) = restore(claim.id, other)
    assert "is damaged" in note and note.endswith("The state before it is taken.")
    assert [path.name for path in (other / "state").iterdir()] == ["step-4"]
    save_state(other, 6)
    (other / "state" / "step-6" / "state.json").write_text("6, again")
    send_state(claim.id, 6, link_state(other, 6))
    assert len(stored(f"runs/{claim.id}/states")) == 2 * len(("run.json", "state.json", "tree.json"))
    assert stored_states(claim.id)[6] != states[6]
    for step in (4, 6):
        store.put_bytes(stored_states(claim.id)[step].tree_path, b"{}")
    with pytest.raises(Damaged):
        restore(claim.id, move(tmp_path / "a third", monkeypatch) / "runs" / claim.id)


def test_what_the_trainer_drops_goes_from_the_store(hosts: Service) -> None:
    hosts.script(default={"checkpoint_every": 1})
    job_id = hosts.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED
    place = places(job_id)[1]
    claim, run_dir = begin(hosts)
    folder = run_dir / "checkpoints" / "step-1"
    folder.parent.mkdir()
    local(place).rename(folder)
    manifest = folder / "policysplit.json"
    import hashlib

    with EventWriter(run_dir / events_name(1)) as writer:
        writer.write(
            CheckpointSaved(
                step=1,
                path="checkpoints/step-1",
                high_entropy_prompt="",
                manifest_sha256=hashlib.sha256(manifest.read_bytes()).hexdigest(),
                metrics={},
            )
        )
        relay = relay_of(claim, run_dir)
        eventually(lambda: relay.step() or places(claim.id))
        eventually(lambda: places(claim.id))
        assert stored(f"runs/{claim.id}")
        writer.write(CheckpointRemoved(step=1))
    eventually(lambda: relay.step() or not places(claim.id))
    eventually(lambda: not stored(f"runs/{claim.id}"))
    assert stored(f"runs/{job_id}")


def test_what_no_row_names_is_swept_a_day_later(hosts: Service, tmp_path: Path) -> None:
    hosts.script(default={"checkpoint_every": 1})
    job_id = hosts.add_job(steps=1)
    assert run() is Outcome.SUCCEEDED
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "config.json").write_text("{}")
    # Its worker died before the row was written.
    place = keep(f"runs/{job_id}/checkpoints/step-9", lost)
    kept = stored("")
    sweep()
    assert [path for path in stored("") if not path.startswith("swept")] == kept
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    sweep(tomorrow)
    assert not stored(f"runs/{job_id}/checkpoints/step-9")
    assert local(places(job_id)[1]).is_dir() and stored("files")
    with pytest.raises(Exception, match="does not have"):
        local(place)
    with write_session() as session:
        session.delete(session.scalars(select(File)).one())
    sweep(tomorrow + timedelta(days=2))
    assert not stored("files")
