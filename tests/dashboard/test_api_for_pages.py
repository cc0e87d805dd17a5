"""What the dashboard asks of the API: checking a job, placing events on the steps, finding rollouts."""

import math

import httpx
import openai

from app.core.db import write_session
from app.core.job_log import add_event
from app.core.job_status import JobStatus
from app.core.tables import Job, JobAttempt
from app.jobs.rewards import record_rewards
from app.jobs.status import change_status
from app.rollouts.repository import upsert_rollouts
from app.series.repository import upsert_steps
from tests.fixtures.api import GRADER, Api, create_job, on_sqlite, sums
from trainer.spec.events import RolloutRecord
from trainer.spec.modes import Mode

JOBS = "/v1/fine_tuning/jobs"


def get(api: Api, path: str, **query: object) -> dict:
    answer = httpx.get(f"{api.url}{JOBS}/{path}", params=query)  # type: ignore[arg-type]
    answer.raise_for_status()
    return answer.json()


def test_a_body_is_checked_as_creation_does_and_makes_nothing(client: openai.OpenAI, api: Api):
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "budget": {"steps": 7}}}
    body = {"model": "tiny", "training_file": api.upload(client, sums()), "method": method}
    answer = httpx.post(f"{api.url}{JOBS}/validate", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["total_steps"] == 7
    assert answer.json()["method"]["reinforcement"]["rollout"]["samples_per_prompt"] == 8
    for wrong in (
        {**body, "model": "nobody"},
        {**body, "training_file": None},
        {**body, "seed": -1},
        {**body, "method": {"type": "reinforcement", "reinforcement": {"grader": {**GRADER, "x": 1}}}},
    ):
        checked = httpx.post(f"{api.url}{JOBS}/validate", json=wrong)
        created = httpx.post(f"{api.url}{JOBS}", json=wrong)
        assert (checked.status_code, checked.json()) == (created.status_code, created.json())
        assert checked.status_code in (400, 404)
    assert list(client.fine_tuning.jobs.list()) == []


def test_the_timeline_knows_the_step_of_each_event(client: openai.OpenAI, api: Api):
    job_id = create_job(client, api, api.upload(client, sums())).id
    with write_session() as session:
        change_status(session, session.get_one(Job, job_id), JobStatus.RUNNING, message="runs", now=100.0)
        session.add(JobAttempt(job_id=job_id, attempt=1, worker="w1", started_at=100.0, ended_at=200.0))
        for step in (1, 2, 3):
            add_event(session, job_id, "info", "metrics", f"Step {step}", {"step": step}, now=100.0 + step)
        add_event(session, job_id, "warn", "message", "lost", now=104.0)
        session.add(JobAttempt(job_id=job_id, attempt=2, worker="w2", started_at=105.0))
        add_event(session, job_id, "info", "message", "again", {"step": 2}, now=106.0)
        add_event(session, job_id, "info", "metrics", "Step 4", {"step": 4}, now=107.0)
    found = get(api, f"{job_id}/timeline")
    assert [(one["message"], one["step"]) for one in found["events"]][-3:] == [
        ("runs", 0),
        ("lost", 3),
        ("again", 2),
    ]
    assert all(one["type"] == "message" for one in found["events"])
    assert [(one["attempt"], one["worker"], one["step"]) for one in found["attempts"]] == [
        (1, "w1", 0),
        (2, "w2", 3),
    ]
    assert found["last_event_id"] == get(api, f"{job_id}/events", limit=1)["data"][0]["id"]
    assert httpx.get(f"{api.url}{JOBS}/ftjob-nobody/timeline").status_code == 404


def test_columns_say_what_points_say(client: openai.OpenAI, api: Api):
    job_id = create_job(client, api, api.upload(client, sums())).id
    with write_session() as session:
        upsert_steps(session, job_id, {step: {"a": step**2, "b": -step} for step in range(1, 400)})
    query = {"name": ["a", "b", "absent"], "max_points": 40}
    points, columns = (
        get(api, f"{job_id}/metrics", layout=layout, **query)["data"] for layout in ("points", "columns")
    )
    for one, other in zip(points, columns, strict=True):
        assert [point["step"] for point in one.pop("points")] == other.pop("steps")
        other.pop("values")
        assert one == other
    assert [column["total_points"] for column in columns] == [399, 399, 0]
    wrong = httpx.get(f"{api.url}{JOBS}/{job_id}/metrics", params={"name": "a", "layout": "rows"})
    assert wrong.status_code == 400
    assert "'points' or 'columns'" in wrong.json()["error"]["message"]


def record(group: int, index: int, prompt: str, response: str) -> RolloutRecord:
    return RolloutRecord(
        group=group,
        index=index,
        item=group,
        mode=Mode.NORMAL,
        prompt=prompt,
        response=response,
        reward=1.0,
        tokens=1,
        truncated=False,
        logprobs=[-0.5],
        entropies=[0.5],
        token_texts=["r"],
    )


def test_rollouts_are_found_by_text_and_group(client: openai.OpenAI, api: Api):
    job_id = create_job(client, api, api.upload(client, sums())).id
    rows = [
        record(0, 0, "What is 50%?", "a HALF"),
        record(0, 1, "What is 50%?", "nothing"),
        record(1, 0, "Half of 4", "2_3"),
        record(1, 1, "What is 5?", "2x3"),
    ]
    with write_session() as session:
        upsert_rollouts(session, job_id, 1, rows)

    def found(**query: object) -> list[tuple[int, int]]:
        return [(one["group"], one["index"]) for one in get(api, f"{job_id}/rollouts", **query)["data"]]

    assert found(search="half") == [(0, 0), (1, 0)], "in prompt or response, in any case"
    assert found(search="50%") == [(0, 0), (0, 1)], "no pattern"
    assert found(search="2_3") == [(1, 0)], "no pattern"
    assert found(search="half", group=1) == [(1, 0)]
    assert found(group=0, step=1) == [(0, 0), (0, 1)]
    with write_session() as session:
        upsert_rollouts(session, job_id, 1, [rows[2].model_copy(update={"reward": None})])
    assert found(graded=False) == [(1, 0)]
    assert found(graded=True, group=1) == [(1, 1)]
    means = {(one["entropy"], one["surprisal"]) for one in get(api, f"{job_id}/rollouts")["data"]}
    assert means == {(0.5, 0.5)}
    assert httpx.get(f"{api.url}{JOBS}/{job_id}/rollouts", params={"search": ""}).status_code == 400


def test_jobs_are_searched_and_sorted(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    made = {name: create_job(client, api, file, suffix=name).id for name in ("beta", "alpha-50", "gamma")}
    names = {job_id: name for name, job_id in made.items()}
    httpx.post(
        f"{api.url}{JOBS}/{made['gamma']}", json={"tags": ["Näh"], "note": "50% of it"}
    ).raise_for_status()

    def listed(**query: object) -> list[str]:
        answer = httpx.get(f"{api.url}{JOBS}", params=query)  # type: ignore[arg-type]
        answer.raise_for_status()
        return [names[job["id"]] for job in answer.json()["data"]]

    assert listed(search="ALPHA") == ["alpha-50"], "in any case"
    assert listed(search="tiny policy") == ["gamma", "alpha-50", "beta"], "every word, newest first"
    assert listed(search="50%") == ["gamma"], "no pattern"
    assert listed(search="näh") == ["gamma"]
    assert listed(search=made["beta"]) == ["beta"]
    assert listed(search="alpha beta") == []
    assert listed(sort="name", order="asc") == ["alpha-50", "beta", "gamma"]
    assert listed(sort="name", order="asc", after=made["beta"]) == ["gamma"]
    assert listed(sort="name", search="a", after=made["beta"]) == ["alpha-50"]
    client.fine_tuning.jobs.cancel(made["beta"])
    assert listed(sort="status", order="asc") == ["beta", "alpha-50", "gamma"]
    assert listed(sort="status", after=made["alpha-50"]) == ["beta"]
    rewards = {"beta": {"N": 0.25, "H": 0.75}, "gamma": {"N": 0.5}}
    for name, values in rewards.items():
        steps = {
            1: {f"train/{mode}/reward": 1.0 for mode in values},
            2: {f"train/{mode}/reward": value for mode, value in values.items()},
            3: {"train/loss": 0.1, "train/N/reward": math.nan},
        }
        with write_session() as session:
            record_rewards(session, made[name], steps)
    assert listed(sort="normal_reward") == ["gamma", "beta", "alpha-50"], "one without a reward comes last"
    assert listed(sort="normal_reward", order="asc") == ["alpha-50", "beta", "gamma"]
    assert listed(sort="normal_reward", after=made["gamma"]) == ["beta", "alpha-50"]
    assert listed(sort="normal_reward", after=made["beta"]) == ["alpha-50"]
    assert listed(sort="normal_reward", order="asc", after=made["alpha-50"]) == ["beta", "gamma"]
    assert listed(sort="normal_reward", status="cancelled") == ["beta"]
    assert listed(sort="normal_reward", search="a", limit=1) == ["gamma"]
    assert listed(sort="high_entropy_reward")[0] == "beta" and len(listed(sort="high_entropy_reward")) == 3
    for after, query in (("ftjob-nobody", {"sort": "normal_reward"}), ("ftjob-nobody", {})):
        assert httpx.get(f"{api.url}{JOBS}", params={"after": after} | query).status_code == 400
    wrong = httpx.get(f"{api.url}{JOBS}", params={"sort": "reward"})
    assert wrong.status_code == 400 and "'name'" in wrong.json()["error"]["message"]


def test_what_people_say_of_a_job_is_stored(client: openai.OpenAI, api: Api):
    job = create_job(client, api, api.upload(client, sums()), metadata={"team": "a"})
    address = f"{api.url}{JOBS}/{job.id}"
    found = httpx.post(address, json={"tags": [" best "], "note": "Kept.\nTwice."}).json()
    assert (found["tags"], found["note"], found["metadata"]) == (["best"], "Kept.\nTwice.", {"team": "a"})
    found = httpx.post(address, json={"note": None, "metadata": {"team": "b"}}).json()
    assert (found["tags"], found["note"], found["metadata"]) == (["best"], None, {"team": "b"})
    assert get(api, job.id) == found
    for wrong in ({"tags": ["a,b"]}, {"tags": [""]}, {"note": "x" * 10_001}, {"status": "failed"}):
        assert httpx.post(address, json=wrong).status_code == 400, wrong
    assert httpx.post(f"{api.url}{JOBS}/ftjob-nobody", json={}).status_code == 404


@on_sqlite
def test_jobs_are_listed_by_status(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    made = [create_job(client, api, file).id for _ in range(4)]
    client.fine_tuning.jobs.cancel(made[1])
    client.fine_tuning.jobs.pause(made[2])

    def listed(*status: str) -> list[str]:
        answer = httpx.get(f"{api.url}{JOBS}", params={"status": list(status)})
        answer.raise_for_status()
        return [job["id"] for job in answer.json()["data"]]

    assert listed("queued") == [made[3], made[0]]
    assert listed("cancelled", "paused") == [made[2], made[1]]
    assert listed() == made[::-1]
    wrong = httpx.get(f"{api.url}{JOBS}", params={"status": "done"})
    assert wrong.status_code == 400
    assert "succeeded" in wrong.json()["error"]["message"]
