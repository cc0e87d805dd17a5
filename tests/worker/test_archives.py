"""Archives of rollouts: what expires is read as before, whatever breaks, and goes with its job."""

import json
import shlex
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import func, select

from app.core.db import read_session, write_session
from app.core.errors import BadRequest, NotFound
from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.store.errors import Damaged, NotStored
from app.core.store.remote import remote
from app.core.store.runs import archive_here
from app.core.tables import DEFAULT_PROJECT, Job, JobEvent, Rollout, RolloutArchive
from app.jobs.deletion import delete_job, remove_deleted
from app.jobs.status import change_status
from app.rollouts import service
from app.rollouts.filters import Filter
from app.rollouts.repository import upsert_rollouts
from app.storage.moving import move
from tests.fixtures import forks
from tests.fixtures.api import Api, create_job, on_sqlite, sums
from tests.fixtures.object_store import Faults, FaultyS3
from trainer.spec.events import RolloutRecord
from trainer.spec.modes import Mode
from worker import archiving
from worker.retention import DAY, expire
from worker.sweeping import sweep

STEPS = 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several to a job, and rows a few at a time; rollouts expire after a day."""
    monkeypatch.setattr(archiving, "PART_BYTES", 2_000)
    monkeypatch.setattr(archiving, "ROWS", 3)
    monkeypatch.setattr("app.jobs.deletion.ROWS", 4)
    monkeypatch.setenv("POLICYSPLIT_RETAIN_ROLLOUTS_DAYS", "1")
    get_settings.cache_clear()


def record(step: int, group: int, index: int) -> RolloutRecord:
    number = 4 * step + 2 * group + index
    return RolloutRecord(
        group=group,
        index=index,
        item=number % 3,
        mode=Mode.HIGH_ENTROPY if index else Mode.NORMAL,
        prompt=f"{step} + {group} =",
        response=f"Ω {number}\u2028\x00 100%",
        reward=None if number % 5 == 0 else number / 7,
        tokens=2,
        truncated=index == 0,
        logprobs=[-0.1 / 3, -1e-17 * number],
        entropies=[] if number % 4 == 0 else [0.2, 1 / 3],
        token_texts=["Ω", f" {number}"],
        scores={"exact": number / 3},
        dropped=number % 4 == 0,
    )


def ended(client: openai.OpenAI, api: Api) -> str:
    """A job that ended, with four rollouts a step; its id."""
    job_id = create_job(client, api, api.upload(client, sums())).id
    with write_session() as session:
        for step in range(1, STEPS + 1):
            upsert_rollouts(session, job_id, step, [record(step, n // 2, n % 2) for n in range(4)])
        job = session.get_one(Job, job_id)
        change_status(session, job, JobStatus.RUNNING, message="runs")
        job.disk_bytes = 1_000
        change_status(session, job, JobStatus.SUCCEEDED, message="done")
    return job_id


def lines(job_id: str, step: int | None = None) -> list[bytes]:
    return list(service.jsonl_lines(DEFAULT_PROJECT, job_id, step))


def tomorrow(days: float = 2) -> float:
    return time.time() + days * DAY


def rows_left(job_id: str) -> int:
    with read_session() as session:
        return session.scalar(select(func.count()).select_from(Rollout).where(Rollout.job_id == job_id)) or 0


def parts(job_id: str) -> list[RolloutArchive]:
    with read_session() as session:
        query = select(RolloutArchive).where(RolloutArchive.job_id == job_id)
        return list(session.scalars(query.order_by(RolloutArchive.number)))


def of_archives(job_id: str) -> set[str]:
    """What lies of a job's archives here, and in the store."""
    folder = get_settings().runs_dir / job_id / "rollouts"
    here = {str(path.relative_to(get_settings().runs_dir.parent)) for path in folder.rglob("*.gz")}
    store = remote()
    stored = () if store is None else store.list(f"runs/{job_id}/rollouts")
    return here | {one.path for one in stored if one.path.endswith(".gz")}


def test_what_has_expired_is_answered_as_before(client: openai.OpenAI, api: Api, http: httpx.Client) -> None:
    """Each answer has the same bytes, of rows and of the archive: lists, pages, filters, single ones, all."""
    job_id, other = ended(client, api), ended(client, api)
    url = f"/v1/fine_tuning/jobs/{job_id}/rollouts"
    ids = [one["id"] for one in http.get(url, params={"limit": 100}).json()["data"]]
    assert len(ids) == 4 * STEPS
    queries: list[dict[str, Any]] = [
        {"limit": 7},
        {"limit": 7, "after": ids[6]},
        {"limit": 100, "after": ids[-1]},
        {"step": 3},
        {"step": 3, "group": 1, "limit": 1},
        {"mode": "normal", "limit": 100},
        {"item": 2, "after": ids[3]},
        {"min_reward": 1.0, "max_reward": 2.5},
        {"graded": "false"},
        {"graded": "true", "limit": 3},
        {"search": "Ω 1"},
        {"search": "100%"},
        {"search": "nothing of the kind"},
        {"step": 99},
    ]
    asked = [(url, query) for query in queries] + [(f"{url}/{one}", {}) for one in ids[:6]]
    asked += [(f"{url}.jsonl", {}), (f"{url}.jsonl", {"step": 2})]
    before = [http.get(path, params=query).content for path, query in asked]
    assert [json.loads(line)["id"] for line in before[-2].splitlines()] == ids
    assert json.loads(before[-2].splitlines()[4]) == json.loads(before[len(queries) + 4])

    expire(now=tomorrow())
    assert rows_left(job_id) == rows_left(other) == 0
    assert len(parts(job_id)) > 2 and sum(part.count for part in parts(job_id)) == len(ids)
    assert [http.get(path, params=query).content for path, query in asked] == before
    assert http.get(f"{url}/rollout-999999").status_code == 404
    wrong = http.get(url, params={"after": "rollout-999999"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")
    with read_session() as session:
        told = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id)).all()[-1]
    assert told.message == "20 rollouts have expired: from now on they are read from the archive."
    size = sum(part.bytes for part in parts(job_id))
    assert http.get(f"/v1/fine_tuning/jobs/{job_id}").json()["disk_bytes"] == 1_000 + size
    assert http.get("/v1/storage").json()["jobs"]["bytes"] >= 2_000 + 2 * size

    made = of_archives(job_id)
    expire(now=tomorrow())
    assert of_archives(job_id) == made, "once"


#: Where a worker is killed: what it was about to call, and which call of it.
KILLED = [
    ("worker.archiving._keep", 1),
    ("worker.archiving._record", 1),
    ("worker.archiving._keep", 3),
    ("worker.archiving._record", 3),
    ("worker.retention.stand_in", 1),
    ("worker.retention.delete_some", 1),
    ("worker.retention.delete_some", 3),
]
KILLED_THERE = """
import importlib, os
from worker import archiving
archiving.PART_BYTES, archiving.ROWS = 2_000, 3
import app.jobs.deletion
app.jobs.deletion.ROWS = 4
module, _, name = {place!r}.rpartition(".")
module = importlib.import_module(module)
real, calls = getattr(module, name), []
def killed(*arguments):
    calls.append(name)
    if len(calls) == {call}:
        os.kill(os.getpid(), 9)
    return real(*arguments)
setattr(module, name, killed)
from worker.retention import expire
expire(now={now})
"""


@on_sqlite
@pytest.mark.parametrize("stored", [False, True], ids=["here", "file://"])
def test_a_kill_at_any_point_loses_nothing(
    client: openai.OpenAI, api: Api, stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stored:
        monkeypatch.setenv("POLICYSPLIT_STORE", f"file://{tmp_path / 'store'}")
        get_settings.cache_clear()
    jobs = {job_id: lines(job_id) for job_id in (ended(client, api) for _ in KILLED)}
    for (place, call), job_id in zip(KILLED, jobs, strict=True):
        # One job after the other, so that it is this one that is hit.
        with write_session() as session:
            session.get_one(Job, job_id).finished_at = time.time() - 2 * DAY
        code = KILLED_THERE.format(place=place, call=call, now=time.time())
        done = subprocess.run([*shlex.split(forks.python()), "-u", "-c", code], check=False)
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), (place, call, done.returncode)
        assert lines(job_id) == jobs[job_id], (place, call)
        assert rows_left(job_id) == 4 * STEPS or parts(job_id)[-1].complete
        expire()
        assert rows_left(job_id) == 0 and lines(job_id) == jobs[job_id], (place, call)
    for job_id, all_lines in jobs.items():
        assert sum(part.count for part in parts(job_id)) == len(all_lines)
    # What had no row when its worker died, or was half written, goes a day later; what has one stays.
    sweep(datetime.now(UTC) + timedelta(days=1.5))
    for job_id, all_lines in jobs.items():
        assert len(of_archives(job_id)) == 2 * len(parts(job_id))
        assert lines(job_id) == all_lines


@on_sqlite
def test_an_archive_is_read_on_another_host(
    client: openai.OpenAI, api: Api, faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by one, with a store that is away at first, read by another, and gone with its job."""
    job_id = ended(client, api)
    all_lines = lines(job_id)
    faulty_s3.faults = Faults(times=99, status=403, code="AccessDenied")
    expire(now=tomorrow())
    assert rows_left(job_id) == 4 * STEPS and lines(job_id) == all_lines and not parts(job_id)
    faulty_s3.faults = Faults()
    expire(now=tomorrow())
    assert rows_left(job_id) == 0 and not list((api.folder / "runs").rglob("*.gz"))

    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(tmp_path / "another"))
    get_settings.cache_clear()
    assert len(service.listing(DEFAULT_PROJECT, job_id, Filter(step=2), after=None, limit=9)) == 4
    fetched = {path.name for path in (tmp_path / "another").rglob("*.gz")}
    assert fetched == {"rollouts.jsonl.gz"}, "tokens are fetched where they are asked for"
    assert lines(job_id) == all_lines

    delete_job(DEFAULT_PROJECT, job_id)
    remove_deleted()
    assert of_archives(job_id) == set() and parts(job_id) == []
    assert not list((tmp_path / "another").rglob("*.gz"))


@on_sqlite
def test_archives_move_into_a_store_and_stay_where_they_were(
    client: openai.OpenAI, api: Api, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLICYSPLIT_STORE")
    get_settings.cache_clear()
    job_id = ended(client, api)
    all_lines = lines(job_id)
    expire(now=tomorrow())
    monkeypatch.setenv("POLICYSPLIT_STORE", bucket)
    get_settings.cache_clear()
    # Before it is moved it stays on this host, however long: nobody else has it.
    sweep(datetime.now(UTC) + timedelta(days=3))
    assert lines(job_id) == all_lines
    told: list[str] = []
    assert move(told.append).rollout_archives == len(parts(job_id)) == len(of_archives(job_id)) // 4
    assert any(job_id in one for one in told) and move(told.append).missing == []
    sweep(datetime.now(UTC) + timedelta(days=3))
    assert not (api.folder / "runs" / job_id).exists() and lines(job_id) == all_lines
    store = remote()
    assert store is not None
    store.remove([one.path for one in store.list(f"runs/{job_id}")])
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(tmp_path / "another"))
    get_settings.cache_clear()
    assert len(move(told.append).missing) == len(parts(job_id))
    with pytest.raises(NotStored, match=r"does not have runs/"):
        lines(job_id)


@on_sqlite
def test_archives_expire_in_their_turn(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "retain_rollout_archives_days", 10.0)
    job_id, late = ended(client, api), ended(client, api)
    expire(now=tomorrow())
    assert of_archives(job_id) and len(lines(job_id)) == 4 * STEPS
    told = {one["what"]: one for one in httpx.get(f"{api.url}/v1/storage").json()["retention"]}
    assert told["rollout_archives"]["days"] == 10 and told["rollout_archives"]["expiring_count"] == 0
    monkeypatch.setattr(get_settings(), "retain_rollout_archives_days", 5.0)
    told = {one["what"]: one for one in httpx.get(f"{api.url}/v1/storage").json()["retention"]}
    sizes = sum(part.bytes for one in (job_id, late) for part in parts(one))
    assert (told["rollout_archives"]["expiring_count"], told["rollout_archives"]["expiring_bytes"]) == (
        2,
        sizes,
    )
    expire(now=tomorrow(6))
    assert of_archives(job_id) == set() and parts(job_id) == [] and lines(job_id) == []
    with read_session() as session:
        assert session.get_one(Job, job_id).disk_bytes == 1_000
        message = session.scalars(select(JobEvent.message).where(JobEvent.job_id == job_id)).all()[-1]
    assert message == "20 archived rollouts have expired."
    # One that would have expired by now is not made.
    long_over = ended(client, api)
    expire(now=tomorrow(6))
    assert rows_left(long_over) == 0 and parts(long_over) == []


@on_sqlite
def test_archives_as_soon_as_jobs_have_ended_or_never(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "archive_rollouts", "ended")
    job_id = ended(client, api)
    running = create_job(client, api, api.upload(client, sums())).id
    with write_session() as session:
        upsert_rollouts(session, running, 1, [record(1, 0, 0)])
    all_lines = lines(job_id)
    expire()
    made = of_archives(job_id)
    assert made and rows_left(job_id) == 4 * STEPS and not parts(running)
    assert not any(part.sole for part in parts(job_id)), "rows are read while they are there"
    expire()
    assert of_archives(job_id) == made
    monkeypatch.setattr(get_settings(), "archive_rollouts", "never")
    expire(now=tomorrow())
    assert rows_left(job_id) == 0 and lines(job_id) == all_lines, "what was made is read"
    another = ended(client, api)
    expire(now=tomorrow())
    assert rows_left(another) == 0 and not parts(another) and lines(another) == []


@on_sqlite
def test_an_archive_that_is_damaged_or_gone_is_told_so(client: openai.OpenAI, api: Api) -> None:
    job_id = ended(client, api)
    expire(now=tomorrow())
    part = parts(job_id)[1]
    folder = archive_here(job_id, part.number, part.digest)
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/rollouts"
    whole = (folder / "rollouts.jsonl.gz").read_bytes()
    for damage in (whole[: len(whole) // 2], b"\x1f\x8b" + whole[:-3] + b"xxx", whole[:30] + b"\xff" * 40):
        (folder / "rollouts.jsonl.gz").write_bytes(damage)
        answer = httpx.get(url, params={"step": part.last_step, "limit": 100})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "artefact_damaged")
        assert f"steps {part.first_step} to {part.last_step} of {job_id}" in answer.json()["error"]["message"]
    with pytest.raises(Damaged):
        lines(job_id)
    (folder / "rollouts.jsonl.gz").unlink()
    answer = httpx.get(url, params={"step": part.last_step, "limit": 100})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "artefact_missing")
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", f"{url}.jsonl") as broken:
        broken.read()


@on_sqlite
def test_a_search_that_takes_too_long_is_told_what_to_ask(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(client, api)
    expire(now=tomorrow())
    monkeypatch.setattr(get_settings(), "database_statement_seconds", 1e-9)
    answer = httpx.get(f"{api.url}/v1/fine_tuning/jobs/{job_id}/rollouts", params={"search": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "archive_timeout")
    assert "give a step" in answer.json()["error"]["message"]


@on_sqlite
def test_two_workers_at_one_job_make_one_archive(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes when the first has written files, at each part, and leaves nothing behind."""
    job_id = ended(client, api)
    all_lines = lines(job_id)
    real, inside = archiving._record, []

    def second_first(*arguments: Any) -> bool:
        if not inside:
            inside.append(1)
            expire(now=tomorrow())
        return real(*arguments)

    monkeypatch.setattr(archiving, "_record", second_first)
    expire(now=tomorrow())
    expire(now=tomorrow())
    assert rows_left(job_id) == 0 and lines(job_id) == all_lines
    assert len(of_archives(job_id)) == 2 * len(parts(job_id))


@on_sqlite
def test_what_is_not_there_is_said(client: openai.OpenAI, api: Api) -> None:
    with pytest.raises(NotFound):
        service.jsonl_lines(DEFAULT_PROJECT, "ftjob-none", None)
    job_id = ended(client, api)
    with pytest.raises(BadRequest, match="after"):
        service.listing(DEFAULT_PROJECT, job_id, Filter(), after="", limit=1)
