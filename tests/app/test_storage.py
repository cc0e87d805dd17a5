"""What jobs leave on the disk: visible per project, gone with the job, expired by policy."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import Connection, event, func, insert, select

from app.checkpoints.repository import upsert_checkpoint
from app.core.db import get_engine, read_session, write_session
from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.tables import (
    DEFAULT_PROJECT,
    Checkpoint,
    Experiment,
    ExperimentRun,
    File,
    Job,
    JobAttempt,
    JobEvent,
    MetricBlock,
    MetricPoint,
    MetricSeries,
    Rollout,
)
from app.files.service import create_result_file
from app.files.storage import path_of, store
from app.jobs.deletion import remove_deleted
from app.jobs.status import change_status
from app.rollouts.repository import upsert_rollouts
from app.series.repository import curves_of_job, upsert_steps
from tests.fixtures.api import Api, Keyed, create_job, jsonl, sums
from tests.fixtures.filled import Counts, fill
from tests.worker.test_relay import record
from worker.retention import DAY, Pauses, expire, pack_ended

TABLES = (Checkpoint, JobAttempt, JobEvent, MetricSeries, Rollout)


def finished(client: openai.OpenAI, api: Api, *, steps: int = 3) -> str:
    """A succeeded job with everything that a job leaves behind; its id."""
    job_id = create_job(client, api, api.upload(client, sums())).id
    stored = store(b"step\n1\n")
    with write_session() as session:
        job = session.get_one(Job, job_id)
        change_status(session, job, JobStatus.RUNNING, message="runs")
        session.add(JobAttempt(job_id=job_id, attempt=1, worker="w", started_at=1.0, cause="signal"))
        for step in range(1, steps + 1):
            upsert_steps(session, job_id, {step: {"train/N/reward": 1.0}})
            upsert_rollouts(session, job_id, step, [record(0), record(1)])
            folder = api.folder / "runs" / job_id / "checkpoints" / f"step-{step}"
            folder.mkdir(parents=True)
            (folder / "model.safetensors").write_bytes(bytes(1000))
            upsert_checkpoint(
                session,
                job,
                step=step,
                path=str(folder),
                high_entropy_prompt="wander",
                manifest_sha256="0" * 64,
                metrics={},
            )
        job.result_files = [
            create_result_file(session, project_id=job.project_id, filename="r.csv", stored=stored).id
        ]
        job.disk_bytes = 12_288
        change_status(session, job, JobStatus.SUCCEEDED, message="done")
    return job_id


def rows(job_id: str) -> dict[str, int]:
    with read_session() as session:
        found = {
            table.__tablename__: session.query(table).filter_by(job_id=job_id).count() for table in TABLES
        }
        # Of all jobs: the points of each finished one are a block.
        found["metric_blocks"] = session.query(MetricBlock).count()
        return found


def test_a_deleted_job_takes_everything_with_it(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.deletion.ROWS", 2)
    job_id, other = finished(client, api), finished(client, api)
    (result,) = client.fine_tuning.jobs.retrieve(job_id).result_files
    kept = rows(other)
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}"
    assert httpx.delete(url).json() == {"id": job_id, "object": "fine_tuning.job", "deleted": True}
    assert httpx.get(url).status_code == 404 and httpx.delete(url).status_code == 404
    left = {model.model_extra["job"] for model in client.models.list() if model.model_extra}
    assert left == {None, other}, "its models are gone at once"
    assert remove_deleted() == 1 and remove_deleted() == 0
    assert set(rows(job_id).values()) == {0, kept["metric_blocks"] - 1}
    assert rows(other) == kept | {"metric_blocks": 1}
    assert not (api.folder / "runs" / job_id).exists() and (api.folder / "runs" / other).is_dir()
    assert not path_of(result).exists()
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(result)


def test_a_job_that_is_not_over_is_not_deleted(client: openai.OpenAI, api: Api) -> None:
    job = create_job(client, api, api.upload(client, sums()))
    answer = httpx.delete(f"{api.url}/v1/fine_tuning/jobs/{job.id}")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "job_not_finished"
    assert "Cancel it before deleting it" in answer.json()["error"]["message"]
    client.fine_tuning.jobs.cancel(job.id)
    assert httpx.delete(f"{api.url}/v1/fine_tuning/jobs/{job.id}").status_code == 200


def test_a_run_of_an_experiment_is_not_deleted(client: openai.OpenAI, api: Api) -> None:
    job_id = finished(client, api)
    with write_session() as session:
        experiment = Experiment(
            id="exp_1",
            project_id=DEFAULT_PROJECT,
            request_sha256="0" * 64,
            created_at=1.0,
            name="x",
            definition={},
            has_unstarted_runs=False,
        )
        session.add(experiment)
        session.flush()
        session.add(
            ExperimentRun(experiment_id="exp_1", arm="a", task="t", seed=0, position=0, job_id=job_id)
        )
    answer = httpx.delete(f"{api.url}/v1/fine_tuning/jobs/{job_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_in_experiment")


def test_attempts_are_shown_newest_first(client: openai.OpenAI, api: Api) -> None:
    job_id = finished(client, api)
    with write_session() as session:
        for number in (2, 3):
            session.add(JobAttempt(job_id=job_id, attempt=number, worker="w", started_at=1.0, cause="engine"))
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/attempts"
    first = httpx.get(url, params={"limit": 2}).json()
    assert [(one["attempt"], one["cause"]) for one in first["data"]] == [(3, "engine"), (2, "engine")]
    last = httpx.get(url, params={"after": first["last_id"]}).json()
    assert [(one["attempt"], one["cause"]) for one in last["data"]] == [(1, "signal")]
    assert not last["has_more"]
    assert httpx.get(url, params={"after": f"{job_id}/x"}).status_code == 400


def test_a_project_sees_what_it_uses(keyed: Keyed) -> None:
    finished(keyed.owner, keyed.api)
    shown = []
    for key in keyed.secrets:
        answer = httpx.get(f"{keyed.api.url}/v1/storage", headers={"authorization": f"Bearer {key}"})
        shown.append(answer.json())
    mine, theirs = shown
    assert (mine["jobs"], mine["checkpoints"]) == ({"count": 1, "bytes": 12_288}, {"count": 3})
    assert mine["files"]["count"] == 2 and mine["bytes"] == mine["files"]["bytes"] + 12_288
    assert theirs["bytes"] == theirs["files"]["count"] == theirs["jobs"]["count"] == 0


def test_what_expires_soon_is_told(client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the worker then removes, and of nothing else: not of results, nor of what a job needs."""

    def told(**days: float) -> dict[str, tuple[object, ...]]:
        for what in ("rollouts", "events", "checkpoints", "files"):
            monkeypatch.setattr(get_settings(), f"retain_{what}_days", days.get(what, 0))
        kept = httpx.get(f"{api.url}/v1/storage").json()["retention"]
        names = ("days", "expiring_count", "expiring_bytes")
        return {one["what"]: tuple(one[name] for name in names) for one in kept}

    finished(client, api)
    create_job(client, api, api.upload(client, sums()))
    (size,) = {file.bytes for file in client.files.list(purpose="fine-tune")}
    assert told(rollouts=6.5) == {
        "rollouts": (6.5, 1, None),
        "rollout_archives": (None, None, None),
        "events": (None, None, None),
        "checkpoints": (None, None, None),
        "files": (None, 0, 0),
        "eval_items": (None, None, None),
    }
    assert told(rollouts=7.5)["rollouts"] == (7.5, 0, None), "later than within a week"
    soon = told(events=1, checkpoints=1, files=1)
    assert (soon["events"], soon["checkpoints"], soon["files"]) == ((1, 1, None), (1, 2, None), (1, 1, size))


def test_the_largest_runs_are_named(client: openai.OpenAI, api: Api) -> None:
    ids = [create_job(client, api, api.upload(client, sums()), suffix=f"run-{n}").id for n in range(7)]
    with write_session() as session:
        for number, job_id in enumerate(ids):
            session.get_one(Job, job_id).disk_bytes = 10 * number
    largest = httpx.get(f"{api.url}/v1/storage").json()["largest_jobs"]
    assert [(one["id"], one["bytes"]) for one in largest] == [(ids[n], 10 * n) for n in (6, 5, 4, 3, 2)]
    assert largest[0]["name"] == "run-6"


@pytest.mark.parametrize("what", ["rollouts", "events", "checkpoints", "files"])
def test_what_is_older_than_its_limit_expires(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    job_id = finished(client, api)
    waiting = create_job(client, api, api.upload(client, sums()))
    with read_session() as session:
        job = session.get_one(Job, job_id)
        uploaded, needed, results = job.training_file, waiting.training_file, job.result_files[0]
    before = rows(job_id)
    monkeypatch.setattr(get_settings(), f"retain_{what}_days", 10.0)
    expire(now=time.time() + 9 * DAY)
    assert rows(job_id) == before, "not yet"
    expire(now=time.time() + 11 * DAY)
    after = rows(job_id)
    folders = sorted(path.name for path in (api.folder / "runs" / job_id / "checkpoints").iterdir())
    with read_session() as session:
        files = {file.id for file in session.query(File)}
    told = {"job_events": before["job_events"] + 1}
    expected = {
        "rollouts": before | told | {"rollouts": 0},
        "events": before | {"job_events": 0},
        "checkpoints": before | told | {"checkpoints": 1},
        "files": before,
    }
    assert after == expected[what]
    counted = httpx.get(f"{api.url}/v1/storage").json()["checkpoints"]["count"]
    assert counted == after["checkpoints"], "what is kept of it is what there is"
    assert folders == (["step-3"] if what == "checkpoints" else ["step-1", "step-2", "step-3"])
    assert (uploaded in files) == (what != "files") == path_of(str(uploaded)).exists()
    assert {needed, results} <= files and Path(path_of(results)).exists()
    expire(now=time.time() + 11 * DAY)
    assert rows(job_id) == after


def test_a_file_goes_when_its_uploader_said(client: openai.OpenAI, api: Api) -> None:
    """Not earlier, and not while a job needs it."""
    day: Any = {"anchor": "created_at", "seconds": 24 * 3600}
    content, kept = jsonl(sums()), api.upload(client, sums())
    goes, needed = (
        client.files.create(file=("rows.jsonl", content), purpose="fine-tune", expires_after=day)
        for _ in range(2)
    )
    assert goes.expires_at == goes.created_at + 24 * 3600
    assert client.files.retrieve(kept).expires_at is None
    job = create_job(client, api, needed.id)
    (told,) = [
        one for one in httpx.get(f"{api.url}/v1/storage").json()["retention"] if one["what"] == "files"
    ]
    assert (told["days"], told["expiring_count"], told["expiring_bytes"]) == (None, 1, len(content))

    def left(days: float) -> set[str]:
        expire(now=time.time() + days * DAY)
        return {file.id for file in client.files.list(purpose="fine-tune")}

    assert left(0.9) == {kept, goes.id, needed.id}
    assert left(1.1) == {kept, needed.id}
    assert not path_of(goes.id).exists()
    client.fine_tuning.jobs.cancel(job.id)
    assert left(1.1) == {kept}


def test_several_workers_remove_what_has_expired_and_pass_over_what_is_locked(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [finished(client, api) for _ in range(6)]
    monkeypatch.setattr(get_settings(), "retain_rollouts_days", 1.0)
    monkeypatch.setattr(get_settings(), "retain_checkpoints_days", 1.0)
    monkeypatch.setattr("app.jobs.deletion.ROWS", 2)
    monkeypatch.setattr("worker.retention.ROWS", 2)
    later = time.time() + 2 * DAY
    postgresql = get_engine().dialect.name == "postgresql"
    with write_session() as session:
        if postgresql:
            session.execute(select(Rollout.id).where(Rollout.job_id == jobs[0]).with_for_update())
            expire(now=later)
            assert [rows(one)["rollouts"] for one in jobs] == [6, 0, 0, 0, 0, 0]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: expire(now=later), range(4)))
    for job_id in jobs:
        left = rows(job_id)
        assert (left["rollouts"], left["checkpoints"], left["job_attempts"]) == (0, 1, 1)
        with read_session() as session:
            told = session.scalars(select(JobEvent.data).where(JobEvent.job_id == job_id)).all()
        # Each worker tells of what it removed.
        for what, count in (("rollouts", 6), ("checkpoints", 2)):
            assert sum((data or {}).get(what, 0) for data in told) == count


def test_jobs_with_few_rollouts_share_a_transaction(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first has 40 rollouts, each of the others two.
    fill(get_engine(), replace(Counts().divided(1e9), jobs=40, rollouts=80))
    monkeypatch.setattr(get_settings(), "retain_rollouts_days", 1.0)
    monkeypatch.setattr("app.jobs.deletion.ROWS", 25)
    # Kept, so that no id is given twice.
    deletes: list[object] = []

    def note(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM rollouts"):
            deletes.append(connection.get_transaction())

    with read_session() as session:
        counts = select(Rollout.job_id, func.count()).join(Job).where(Job.finished_at.is_not(None))
        due = dict(session.execute(counts.group_by(Rollout.job_id)).all())
    event.listen(get_engine(), "before_cursor_execute", note)
    try:
        expire()
    finally:
        event.remove(get_engine(), "before_cursor_execute", note)
    assert (
        len(due) > 10 and max(due.values()) > 25 and len(set(map(id, deletes))) <= sum(due.values()) / 25 + 1
    )
    with read_session() as session:
        left = session.scalars(select(Rollout.id).join(Job).where(Job.finished_at.is_not(None))).all()
        told = select(JobEvent.job_id, JobEvent.data).where(JobEvent.message.like("%rollouts have expired%"))
        assert left == []
        assert dict(session.execute(told).all()) == {
            job_id: {"rollouts": count} for job_id, count in due.items()
        }


def test_points_of_a_release_that_did_not_pack_are_packed_a_few_blocks_at_a_time(
    client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = finished(client, api, steps=1)
    monkeypatch.setattr("app.series.repository.BLOCKS_AT_ONCE", 2)
    with write_session() as session:
        number = session.scalars(select(MetricSeries.id).where(MetricSeries.job_id == job_id)).one()
        points = [{"series_id": number, "step": step, "value": step / 7} for step in range(2, 2000)]
        session.execute(insert(MetricPoint), points)
    with read_session() as session:
        before = curves_of_job(session, job_id)["train/N/reward"].pairs()
    pack_ended(Pauses())
    with read_session() as session:
        assert session.scalar(select(func.count()).select_from(MetricPoint)) == 0
        assert curves_of_job(session, job_id)["train/N/reward"].pairs() == before
