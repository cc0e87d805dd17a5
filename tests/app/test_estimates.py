"""When a job is due, when it will be done, and which budget pauses it."""

import time
from typing import Any

import openai
import pytest

from app.core.db import write_session
from app.core.job_status import JobStatus
from app.core.tables import Job
from app.jobs.budget import Spent, used_up
from app.jobs.repository import queue_positions
from app.jobs.status import change_status
from app.jobs.views import estimated_finish
from tests.fixtures.api import Api, create_job, on_sqlite, sums

NOW = 10_000.0
HIGH = (2.0,) * 5


def job(**columns: Any) -> Job:
    values = {"status": "running", "step": 5, "total_steps": 10, "stepped_at": None, "clock_step": None}
    return Job(**values | columns)


@pytest.mark.parametrize(
    ("columns", "finish"),
    [
        # Steps 1 to 5 took 40 s, so the five to come take 50 s after the last one.
        ({"clock_step": 1, "clock_at": NOW - 50, "stepped_at": NOW - 10}, NOW + 40),
        # A pause, or another attempt, between the start and step 3 does not count.
        ({"started_at": 1.0, "clock_step": 3, "clock_at": NOW - 2, "stepped_at": NOW}, NOW + 5),
        # Later than it was thought: not in the past.
        ({"clock_step": 1, "clock_at": NOW - 500, "stepped_at": NOW - 490}, NOW),
        ({"clock_step": 5, "clock_at": NOW, "stepped_at": NOW}, None),
        ({"stepped_at": NOW}, None),
        ({"status": "queued", "clock_step": 1, "clock_at": NOW - 50, "stepped_at": NOW}, None),
        ({"status": "pausing", "clock_step": 1, "clock_at": NOW - 50, "stepped_at": NOW}, None),
    ],
)
def test_a_job_finishes_at_its_present_pace(columns: dict[str, Any], finish: float | None):
    assert estimated_finish(job(**columns), NOW) == finish


def test_the_place_in_the_queue_is_the_order_in_which_jobs_are_taken(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    ids = [create_job(client, api, file).id for _ in range(5)]
    now = time.time()
    # One that was created last is urgent, and one waits after a crash.
    with write_session() as session:
        session.get_one(Job, ids[3]).priority = 1
        session.get_one(Job, ids[0]).not_before = now + 60
    expected = [ids[3], ids[1], ids[2], ids[4], ids[0]]

    def shown() -> dict[str, Any]:
        listed = client.fine_tuning.jobs.list()
        return {one.id: (one.model_extra or {})["queue_position"] for one in listed}

    assert shown() == {job_id: place for place, job_id in enumerate(expected, 1)}
    with write_session() as session:
        change_status(session, session.get_one(Job, ids[3]), JobStatus.RUNNING, message="runs")
        jobs = [session.get_one(Job, job_id) for job_id in ids]
        assert queue_positions(session, jobs) == {job_id: n for n, job_id in enumerate(expected[1:], 1)}
    assert shown()[ids[3]] is None


@pytest.mark.parametrize(
    ("budget", "spent", "says"),
    [
        ({"pause_after_steps": 10}, Spent(9, 0, 0, HIGH), None),
        ({"pause_after_steps": 10}, Spent(10, 0, 0, HIGH), "10 steps"),
        ({"wall_clock_hours": 0.5}, Spent(1, 1799, 0, HIGH), None),
        ({"wall_clock_hours": 0.5}, Spent(1, 1800, 0, HIGH), "0.5 hours"),
        ({"gpu_hours": 2}, Spent(1, 3600, 1, HIGH), None),
        ({"gpu_hours": 2}, Spent(1, 3600, 2, HIGH), "2 GPU-hours"),
        ({"gpu_hours": 0.1}, Spent(1, 3600, 0, HIGH), None),
        ({"entropy_floor": 1.0}, Spent(9, 0, 0, (0.5, 0.5, 0.5, 0.5)), None),
        ({"entropy_floor": 1.0}, Spent(9, 0, 0, (9.0, 0.9, 0.9, 0.9, 0.9, 0.9)), "0.900 nats"),
        ({"entropy_floor": 1.0}, Spent(9, 0, 0, (0.9, 0.9, 0.9, 0.9, 2.0)), None),
        ({"steps": 1}, Spent(100, 1e9, 8, (0.0,) * 9), None),
    ],
)
def test_budgets(budget: dict[str, Any], spent: Spent, says: str | None):
    found = used_up(budget, spent)
    assert found is None if says is None else says in (found or "")


@on_sqlite
def test_a_job_shows_its_budgets(client: openai.OpenAI, api: Api):
    budget = {
        "steps": 9,
        "pause_after_steps": 4,
        "wall_clock_hours": 1.5,
        "gpu_hours": 2,
        "entropy_floor": 0.1,
    }
    file = api.upload(client, sums())
    made = create_job(client, api, file, reinforcement={"budget": budget})
    shown: Any = made.to_dict()["method"]
    assert shown["reinforcement"]["budget"] == budget
    for name in ("wall_clock_hours", "gpu_hours", "pause_after_steps"):
        with pytest.raises(openai.BadRequestError, match=f"budget.{name}"):
            create_job(client, api, file, reinforcement={"budget": {name: 0}})
