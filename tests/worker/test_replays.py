"""A step of a finished job done again by a worker, from the request to the answer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict
from app.core.queue import announce
from app.core.tables import DEFAULT_PROJECT, JobReplay
from app.jobs import replays
from app.jobs.objects import ReplayObject
from tests.fixtures.described import check_described
from tests.fixtures.workers import Service, WorkerProcess, eventually
from tests.worker.test_real_trainer import run_spec
from worker.replays.replaying import compared, reconcile_replays


def shown(job_id: str) -> dict:
    return replays.listing(DEFAULT_PROJECT, job_id, after=None, limit=1)[0]


def test_a_replayed_step_matches_or_says_what_differs(
    real_service: Service, start_worker: Callable[[], WorkerProcess], tiny_model: Path, tmp_path: Path
) -> None:
    job_id = real_service.add_job(steps=2, run_spec=run_spec(tmp_path, tiny_model, steps=2))
    with pytest.raises(Conflict, match="is queued"):
        replays.create(DEFAULT_PROJECT, job_id, 1)
    announce(job_id)
    start_worker()
    real_service.wait_for_status(job_id, "succeeded", 90)
    with pytest.raises(BadRequest, match="steps 1 to 2"):
        replays.create(DEFAULT_PROJECT, job_id, 3)

    first = replays.create(DEFAULT_PROJECT, job_id, 2)
    assert replays.create(DEFAULT_PROJECT, job_id, 2)["id"] == first["id"], "it is under way already"
    done = eventually(lambda: (one := shown(job_id))["status"] in ("succeeded", "failed") and one, 60)
    assert isinstance(done, dict)
    assert (done["status"], done["error"], done["matches"]) == ("succeeded", None, True)
    assert done["compared"] == dict.fromkeys(("rollouts", "rewards", "grad_norm", "weights"), True)
    assert (done["source"], done["from_step"]) == ("beginning", 0)
    check_described(ReplayObject, json.dumps(done))
    assert done["recorded_digest"] == done["digest"]

    # Other data than the job was trained on: the step cannot come to the same.
    rows = (tmp_path / "train.jsonl").read_text().replace("Say", "Shout")
    (tmp_path / "train.jsonl").write_text(rows)
    second = replays.create(DEFAULT_PROJECT, job_id, 1)
    assert second["id"] != first["id"]
    done = eventually(lambda: (one := shown(job_id))["finished_at"] and one, 60)
    assert isinstance(done, dict) and done["status"] == "succeeded"
    assert done["matches"] is False and done["compared"]["rollouts"] is False


def test_a_lost_replay_fails_and_a_lost_message_is_sent_again(queued_service: Service) -> None:
    job_id = queued_service.add_job(status="paused", step=3)
    replay_id = replays.create(DEFAULT_PROJECT, job_id, 1)["id"]
    with write_session() as session:
        session.get_one(JobReplay, replay_id).enqueued_at = 1.0
    reconcile_replays()
    with read_session() as session:
        assert session.get_one(JobReplay, replay_id).enqueued_at > 1.0
    with write_session() as session:
        row = session.get_one(JobReplay, replay_id)
        row.status, row.lease_expires_at = "running", 1.0
    reconcile_replays()
    assert (shown(job_id)["status"], shown(job_id)["error"]) == (
        "failed",
        "Its worker was lost. Request the replay again.",
    )


def test_what_one_digest_lacks_is_not_compared() -> None:
    digest = {"rollouts": "a", "rewards": "b", "grad_norm": 1.0, "weights": None}
    assert compared(digest, None) == {"matches": None, "compared": {}}
    assert compared(digest, digest | {"weights": "w"})["matches"] is True
    other = compared(digest, digest | {"grad_norm": 1.0000001})
    assert other["matches"] is False and other["compared"]["grad_norm"] is False
    assert "weights" not in other["compared"]


def test_replays_made_at_the_same_time_are_all_listed(service: Service) -> None:
    job_id = service.add_job(status="paused", step=3)
    with write_session() as session:
        for name in ("a", "b", "c"):
            session.add(JobReplay(id=name, job_id=job_id, step=1, status="succeeded", created_at=1.0))
    seen: list[str] = []
    while page := replays.listing(DEFAULT_PROJECT, job_id, after=seen[-1] if seen else None, limit=0):
        seen += [str(one["id"]) for one in page]
    assert seen == ["c", "b", "a"]
