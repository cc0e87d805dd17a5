"""What a worker writes about a job, and how the API shows it."""

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from sqlalchemy import JSON

from app.checkpoints.repository import remove_checkpoint, upsert_checkpoint
from app.core.db import read_session, write_session
from app.core.job_log import add_event
from app.core.job_status import JobStatus
from app.core.tables import DEFAULT_PROJECT, Job
from app.files.service import create_result_file
from app.files.storage import store
from app.jobs.status import change_status
from app.rollouts.repository import upsert_rollouts
from app.series.repository import upsert_steps
from tests.fixtures.api import Api, create_job, on_sqlite, sums
from trainer.spec.events import RolloutRecord
from trainer.spec.modes import Mode


@pytest.fixture
def job_id(client: openai.OpenAI, api: Api) -> str:
    return create_job(client, api, api.upload(client, sums()), suffix="s").id


def get(api: Api, path: str, **query: object) -> dict:
    answer = httpx.get(f"{api.url}/v1/fine_tuning/jobs/{path}", params=query)  # type: ignore[arg-type]
    answer.raise_for_status()
    return answer.json()


def say(job_id: str, *texts: str) -> None:
    with write_session() as session:
        for text in texts:
            add_event(session, job_id, "info", "message", text)


def finish(job_id: str) -> None:
    with write_session() as session:
        for status in (JobStatus.RUNNING, JobStatus.SUCCEEDED):
            change_status(session, session.get_one(Job, job_id), status, message=f"now {status}")


def test_events_are_paged_newest_first(client: openai.OpenAI, api: Api, job_id: str):
    say(job_id, *(str(n) for n in range(7)))
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=2))
    assert [event.message for event in events[:7]] == ["6", "5", "4", "3", "2", "1", "0"]
    assert len(events) == 9
    assert (events[0].object, events[0].type, events[0].level) == ("fine_tuning.job.event", "message", "info")


def stream(api: Api, job_id: str, after: str | None, until: int | None = None) -> list[tuple[str, str]]:
    """(id, message) of each event of a stream, up to its end or ``until`` events."""
    found, event_id = [], ""
    headers = {"last-event-id": after} if after else {}
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/events"
    with httpx.stream("GET", url, params={"stream": "true"}, headers=headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line == "data: [DONE]":
                return found
            elif line.startswith("data: "):
                found.append((event_id, json.loads(line.removeprefix("data: "))["message"]))
                if len(found) == until:
                    return found
    raise AssertionError("the stream ended without [DONE]")


def test_a_stream_goes_on_where_it_was_cut_and_ends_with_the_job(api: Api, job_id: str):
    say(job_id, "a", "b")
    seen = stream(api, job_id, None, until=3)
    assert seen[-1][1] == "a"
    ended: list[list[tuple[str, str]]] = []
    reader = threading.Thread(target=lambda: ended.append(stream(api, job_id, seen[-1][0])))
    reader.start()
    say(job_id, "c")
    finish(job_id)
    reader.join()
    assert [message for _, message in ended[0]] == ["b", "c", "now running", "now succeeded"]
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    assert httpx.get(url, headers={"last-event-id": "ftevent-nope"}).status_code == 400


@pytest.mark.parametrize("path", ["events?stream=true", "metrics/stream"])
def test_the_openai_client_reads_on_through_silence(
    client: openai.OpenAI, api: Api, job_id: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments come behind an event with an id, and are no events to it."""
    monkeypatch.setattr("app.core.streaming.COMMENT_SECONDS", 0.05)
    say(job_id, "a")
    with write_session() as session:
        upsert_steps(session, job_id, {1: {"a": 1.0}})

    def read() -> list[Any]:
        given: Any = {"cast_to": object, "stream": True, "stream_cls": openai.Stream[Any]}
        return list(client.get(f"/fine_tuning/jobs/{job_id}/{path}", **given))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        with httpx.stream("GET", f"{api.url}/v1/fine_tuning/jobs/{job_id}/{path}", timeout=60) as answer:
            comments = (line for line in answer.iter_lines() if line.startswith(":"))
            assert all(next(comments) for _ in range(20))
        finish(job_id)
        found = reading.result()
    assert found and all(found)


def test_metrics_repeat_without_doubling_and_keep_extremes(api: Api, job_id: str):
    curve = {step: float(step % 10) for step in range(1, 3001)} | {1234: 99.0, 2345: -99.0}
    with write_session() as session:
        upsert_steps(session, job_id, {step: {"train/reward": value} for step, value in curve.items()})
        upsert_steps(session, job_id, {3000: {"train/reward": 5.0, "eval/reward": 0.5, "nan": float("nan")}})
    names = get(api, f"{job_id}/metrics")["data"]
    assert [(one["name"], one["last_step"], one["last_value"]) for one in names] == [
        ("eval/reward", 3000, 0.5),
        ("train/reward", 3000, 5.0),
    ]
    reward, absent = get(api, f"{job_id}/metrics", name=["train/reward", "nothing"], max_points=50)["data"]
    values = {point["step"]: point["value"] for point in reward["points"]}
    assert reward["total_points"] == 3000
    assert len(values) <= 50
    assert (values[1], values[1234], values[2345], values[3000]) == (1.0, 99.0, -99.0, 5.0)
    assert absent["points"] == []
    part = get(api, f"{job_id}/metrics", name="train/reward", **{"from": 10, "to": 12})["data"][0]
    assert [point["step"] for point in part["points"]] == [10, 11, 12]

    answer = httpx.get(f"{api.url}/v1/fine_tuning/jobs/{job_id}/metrics.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 3000
    assert rows[1233] == {"step": "1234", "eval/reward": "", "train/reward": "99.0"}
    assert rows[-1] == {"step": "3000", "eval/reward": "0.5", "train/reward": "5.0"}


def metric_stream(api: Api, job_id: str, after: str | None = None, **query: object) -> list[dict]:
    """What a stream of metrics sends up to its end."""
    headers = {"last-event-id": after} if after else {}
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/metrics/stream"
    found = []
    with httpx.stream("GET", url, params=query, headers=headers, timeout=30) as answer:  # type: ignore[arg-type]
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                return found
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream ended without [DONE]")


def test_metrics_are_streamed_step_by_step_until_the_job_is_over(api: Api, job_id: str):
    with write_session() as session:
        upsert_steps(session, job_id, {step: {"a": step / 2, "b": 1.0} for step in range(3)})
    ended: list[list[dict]] = []
    reader = threading.Thread(target=lambda: ended.append(metric_stream(api, job_id)))
    reader.start()
    with write_session() as session:
        upsert_steps(session, job_id, {step: {"a": step / 2} for step in range(3, 500)})
    finish(job_id)
    reader.join()
    assert [one["step"] for one in ended[0]] == list(range(500))
    assert ended[0][2]["values"] == {"a": 1.0, "b": 1.0}
    assert ended[0][3]["values"] == {"a": 1.5}
    assert [one["step"] for one in metric_stream(api, job_id, after="497")] == [498, 499]
    assert [one["values"] for one in metric_stream(api, job_id, name="b")] == [{"b": 1.0}] * 3
    url = f"{api.url}/v1/fine_tuning/jobs/{job_id}/metrics/stream"
    assert httpx.get(url, headers={"last-event-id": "ftevent-1"}).status_code == 400


def record(group: int, index: int, reward: float | None) -> RolloutRecord:
    return RolloutRecord(
        group=group,
        index=index,
        item=group + 40,
        mode=Mode.HIGH_ENTROPY if index else Mode.NORMAL,
        prompt="1 + 1 = ?",
        response="2\x00!",
        reward=reward,
        scores={"exact": 1.0},
        tokens=2,
        truncated=False,
        logprobs=[-0.5, -0.25],
        entropies=[1.0, 0.5],
        token_texts=["2", "\x00!"],
    )


def test_rollouts(api: Api, job_id: str):
    with write_session() as session:
        for step in (1, 2, 1):  # the steps after a checkpoint are done again
            upsert_rollouts(session, job_id, step, [record(g, i, g / 2) for g in range(3) for i in range(2)])
        upsert_rollouts(session, job_id, 3, [record(0, 0, None)])
    everything = get(api, f"{job_id}/rollouts", limit=100)
    assert len(everything["data"]) == 13
    paged, after = [], {}
    while True:
        page = get(api, f"{job_id}/rollouts", limit=5, **after)
        paged += page["data"]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert paged == everything["data"]
    some = get(api, f"{job_id}/rollouts", step=2, mode="high-entropy", min_reward=0.4, max_reward=0.6)["data"]
    assert [(one["group"], one["index"], one["reward"]) for one in some] == [(1, 1, 0.5)]
    assert {one["item"] for one in get(api, f"{job_id}/rollouts", item=41)["data"]} == {41}
    one = get(api, f"{job_id}/rollouts/{some[0]['id']}")
    assert one["response"] == "2\ufffd!", "PostgreSQL's text has no NUL"
    assert one["scores"] == {"exact": 1.0}
    assert one["token_details"][0] == {"text": "2", "logprob": -0.5, "entropy": 1.0}
    assert one["dropped"] is False
    unscored = record(0, 0, 0.0).model_copy(update={"dropped": True, "entropies": []})
    with write_session() as session:
        upsert_rollouts(session, job_id, 4, [unscored])
    (found,) = get(api, f"{job_id}/rollouts", step=4)["data"]
    unscored_view = get(api, f"{job_id}/rollouts/{found['id']}")
    assert unscored_view["dropped"] is True
    assert unscored_view["token_details"][0] == {"text": "2", "logprob": -0.5, "entropy": None}
    missing = httpx.get(f"{api.url}/v1/fine_tuning/jobs/{job_id}/rollouts/rollout-999999")
    assert missing.status_code == 404


def test_checkpoints_and_results(client: openai.OpenAI, api: Api, job_id: str):
    with write_session() as session:
        job = session.get_one(Job, job_id)
        for step, reward in ((5, 0.1), (10, 0.2), (10, 0.3), (15, 0.4)):
            upsert_checkpoint(
                session,
                job,
                step=step,
                path=f"/runs/{step}",
                high_entropy_prompt="wander",
                manifest_sha256="0" * 64,
                metrics={"full_valid_mean_reward": reward},
            )
        remove_checkpoint(session, job_id, 5)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job_id, limit=1))
    assert [one.step_number for one in checkpoints] == [15, 10]
    short = job_id.removeprefix("ftjob-")[:10]
    assert checkpoints[1].fine_tuned_model_checkpoint == f"ft:tiny:policysplit:s:{short}:ckpt-step-10"
    assert checkpoints[1].metrics.to_dict() == {"step": 10, "full_valid_mean_reward": 0.3}

    assert [one.to_dict()["is_result"] for one in checkpoints] == [True, False]  # so far
    with write_session() as session:
        job = session.get_one(Job, job_id)
        job.result_step, job.result_reason = 10, "it has the best eval/N/reward"
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job_id))
    told = [(one.to_dict()["is_result"], one.to_dict()["result_reason"]) for one in checkpoints]
    assert told == [(False, None), (True, "it has the best eval/N/reward")]
    shown = client.fine_tuning.jobs.retrieve(job_id).model_extra
    assert shown is not None
    assert (shown["result_step"], shown["result_reason"]) == (10, "it has the best eval/N/reward")

    stored = store(b"step,train_mean_reward\n1,0.5\n")
    with write_session() as session:
        file = create_result_file(
            session, project_id=DEFAULT_PROJECT, filename="step_metrics.csv", stored=stored
        )
        session.get_one(Job, job_id).result_files = [file.id]
    (result,) = client.fine_tuning.jobs.retrieve(job_id).result_files
    assert client.files.retrieve(result).purpose == "fine-tune-results"
    assert client.files.content(result).text.startswith("step,train_mean_reward\n")
    # A result is not training data.
    with pytest.raises(openai.BadRequestError, match="has the purpose 'fine-tune-results'"):
        create_job(client, api, result)


@on_sqlite
def test_training_goes_on_from_a_finished_model(client: openai.OpenAI, api: Api, job_id: str):
    short = job_id.removeprefix("ftjob-")[:10]
    folders = {step: api.folder / "runs" / job_id / "checkpoints" / f"step-{step}" for step in (5, 10)}
    with write_session() as session:
        job = session.get_one(Job, job_id)
        for step, folder in folders.items():
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
            upsert_checkpoint(
                session,
                job,
                step=step,
                path=str(folder),
                high_entropy_prompt="wander",
                manifest_sha256="0" * 64,
                metrics={},
            )
    file = client.fine_tuning.jobs.retrieve(job_id).training_file
    result = f"ft:tiny:policysplit:s:{short}"
    with pytest.raises(openai.BadRequestError, match="is not a finished model"):
        create_job(client, api, file, model=result)
    with write_session() as session:
        session.get_one(Job, job_id).fine_tuned_model = result
    finish(job_id)
    for name, step in ((result, 10), (f"{result}:ckpt-step-5", 5)):
        child = create_job(client, api, file, model=name)
        with read_session() as session:
            assert session.get_one(Job, child.id).run_spec["model"]["path"] == str(folders[step])


@on_sqlite
@pytest.mark.parametrize(
    ("method", "run_spec"),
    [({}, {}), (JSON.NULL, JSON.NULL), ({"type": "reinforcement"}, {"training_data": {}})],
)
def test_a_damaged_row_keeps_no_job_from_being_listed(
    client: openai.OpenAI, api: Api, job_id: str, method: Any, run_spec: Any
):
    """Nor does any route fail that shows the job itself."""
    other = create_job(client, api, api.upload(client, sums())).id
    with write_session() as session:
        job = session.get_one(Job, job_id)
        job.method, job.run_spec, job.result_files = method, run_spec, []
    assert [job.id for job in client.fine_tuning.jobs.list()] == [other, job_id]
    with httpx.Client(base_url=api.url) as http:
        paths = http.get("/openapi.json").json()["paths"]
        asked = [path for path, how in paths.items() if path.count("{") == 1 and "get" in how]
        of_job = [path.format(fine_tuning_job_id=job_id) for path in asked if "{fine_tuning_job_id}" in path]
        assert len(of_job) > 8
        answers = {path: http.get(path).status_code for path in of_job if not path.endswith("/stream")}
        assert {status for status in answers.values() if status >= 500} == set(), answers
        shown = http.get(f"/v1/fine_tuning/jobs/{job_id}").json()
        assert shown["hyperparameters"] == dict.fromkeys(shown["hyperparameters"]) and shown["status"]
        assert http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").json()["status"] == "cancelled"
        assert http.delete(f"/v1/fine_tuning/jobs/{job_id}").status_code == 200
