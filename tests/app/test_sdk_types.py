"""What we send is what the SDK's own types declare: validated strictly, and with every field they have.

Ours go beyond them in two places, and only there: the statuses of pausing, and no ``training_file`` where
items are drawn from an environment.
"""

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.pagination import SyncCursorPage
from openai.types import FileObject, Model, ModelDeleted
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.checkpoints import PermissionListResponse
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel, TypeAdapter

from app.checkpoints.repository import upsert_checkpoint
from app.core.db import write_session
from app.core.job_status import JobStatus
from app.core.tables import Job
from app.jobs.status import change_status
from app.keys.service import create_project
from tests.fixtures.api import GRADER, Api, create_job, on_sqlite, sums
from trainer.spec.events import StepMetrics
from worker.jobs.relay import add_metrics_event

S = JobStatus
#: Steps from "queued" to each status.
ROUTES: dict[JobStatus, tuple[JobStatus, ...]] = {
    S.VALIDATING_FILES: (),
    S.QUEUED: (),
    S.RUNNING: (S.RUNNING,),
    S.PAUSING: (S.RUNNING, S.PAUSING),
    S.PAUSED: (S.RUNNING, S.PAUSING, S.PAUSED),
    S.SUCCEEDED: (S.RUNNING, S.SUCCEEDED),
    S.FAILED: (S.RUNNING, S.FAILED),
    S.CANCELLED: (S.CANCELLED,),
}


class OurJob(FineTuningJob):
    """The SDK's job with our two statuses."""

    status: Literal[  # type: ignore[assignment]
        "validating_files", "queued", "running", "succeeded", "failed", "cancelled", "pausing", "paused"
    ]


class EnvironmentJob(OurJob):
    """A job without a training file."""

    training_file: str | None  # type: ignore[assignment]


def strictly(kind: Any, text: str) -> Any:
    """``text`` as ``kind``: no value is converted, and every field that the type declares is there."""
    value = TypeAdapter(kind).validate_json(text, strict=True)
    if isinstance(value, BaseModel):
        missing = set(type(value).model_fields) - json.loads(text).keys() - {"shutdown_date"}
        assert not missing, f"{kind}: {missing} left out"
    return value


def get(api: Api, path: str) -> str:
    answer = httpx.get(f"{api.url}/v1{path}")
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.fixture
def job_id(client: openai.OpenAI, api: Api) -> str:
    file = api.upload(client, sums(20))
    return create_job(client, api, file, validation_file=file, metadata={"a": "b"}, suffix="s", seed=1).id


def bring_to(job_id: str, status: JobStatus) -> None:
    with write_session() as session:
        job = session.get_one(Job, job_id)
        if status is S.VALIDATING_FILES:
            job.status = status.value  # a job is in it for the length of its creation only
        if status is S.SUCCEEDED:
            job.fine_tuned_model, job.trained_tokens, job.result_files = "ft:m", 5, ["file-result"]
        if status is S.FAILED:
            job.error = {"code": "grader_error", "message": "The grader failed.", "param": None}
        for step in ROUTES[status]:
            change_status(session, job, step, message=f"now {step}")


@on_sqlite
@pytest.mark.parametrize("status", list(S))
def test_a_job_of_every_status(api: Api, job_id: str, status: JobStatus):
    bring_to(job_id, status)
    text = get(api, f"/fine_tuning/jobs/{job_id}")
    job = strictly(OurJob, text)
    assert job.status == status
    if status not in (S.PAUSING, S.PAUSED):
        strictly(FineTuningJob, text)
    page = strictly(SyncCursorPage[OurJob], get(api, "/fine_tuning/jobs"))
    assert page.data == [job]
    events = strictly(SyncCursorPage[FineTuningJobEvent], get(api, f"/fine_tuning/jobs/{job_id}/events"))
    assert len(events.data) == 2 + len(ROUTES[status])


def test_every_status_has_a_route():
    assert ROUTES.keys() == set(S)


@on_sqlite
def test_a_job_with_openais_names_alone_gets_every_auto_resolved(client: openai.OpenAI, api: Api):
    job = client.fine_tuning.jobs.create(
        model=api.model,
        training_file=api.upload(client, sums(20)),
        method={"type": "reinforcement", "reinforcement": {"grader": GRADER}},  # type: ignore[typeddict-item]
    )
    assert job.method is not None and job.method.reinforcement is not None
    resolved = job.method.reinforcement.hyperparameters
    assert resolved is not None
    assert "auto" not in resolved.to_dict().values()
    strictly(FineTuningJob, get(api, f"/fine_tuning/jobs/{job.id}"))


@on_sqlite
def test_a_job_on_an_environment(client: openai.OpenAI, api: Api):
    task = {"task": "chain_sum", "size": 50}
    job = create_job(client, api, None, environment=task)
    strictly(EnvironmentJob, get(api, f"/fine_tuning/jobs/{job.id}"))


@on_sqlite
def test_metrics_events(api: Api, job_id: str):
    values = {
        "train/N/reward": 0.25,
        "train/H/reward": 0.75,
        "train/N/length": 3.0,
        "eval/N/reward": 0.5,
        "eval/N/parse_error": 0.25,
        "time/generate": 1.0,
        "time/forward_backward": 2.0,
        "time/evaluate": 0.5,
        "train/step_seconds": 3.5,
        "train/tokens_generated": 100.0,
        "train/grader_errors": 2.0,
    }
    with write_session() as session:
        add_metrics_event(session, job_id, StepMetrics(step=1, total_steps=3, values=values))
    text = get(api, f"/fine_tuning/jobs/{job_id}/events?limit=1")
    (event,) = strictly(SyncCursorPage[FineTuningJobEvent], text).data
    strictly(FineTuningJobEvent, json.dumps(json.loads(text)["data"][0]))
    assert event.type == "metrics"
    data: Any = dict(event.data)
    assert (data["step"], data["total_steps"]) == (1, 3)
    assert (data["train_mean_reward"], data["full_valid_mean_reward"]) == (0.5, 0.5)
    assert (data["completion_tokens_mean"], data["mean_unresponsive_rewards"]) == (3.0, None)
    assert data["full_valid_mean_parse_error"] == 0.25
    assert event.message.endswith("full validation mean reward=0.500, full validation mean parse error=0.25")
    assert {"scores", "usage"} <= data.keys()
    assert data["timing"]["step"] == {"sampling": 1.0, "training": 2.0, "eval": 0.5, "full_iteration": 3.5}


@on_sqlite
def test_files_checkpoints_models_and_permissions(client: openai.OpenAI, api: Api, job_id: str):
    bring_to(job_id, S.RUNNING)
    folder = api.folder / "runs" / job_id / "checkpoints" / "step-3"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with write_session() as session:
        model = upsert_checkpoint(
            session,
            session.get_one(Job, job_id),
            step=3,
            path=str(folder),
            high_entropy_prompt="wander",
            manifest_sha256="0" * 64,
            metrics={"full_valid_mean_reward": 0.5},
        ).model
    text = get(api, f"/fine_tuning/jobs/{job_id}/checkpoints")
    page = strictly(SyncCursorPage[FineTuningJobCheckpoint], text)
    assert json.loads(text)["first_id"] == json.loads(text)["last_id"] == page.data[0].id
    missing = set(FineTuningJobCheckpoint.model_fields) - json.loads(text)["data"][0].keys()
    assert not missing

    file = client.files.list().data[0].id
    strictly(FileObject, get(api, f"/files/{file}"))
    strictly(SyncCursorPage[FileObject], get(api, "/files"))
    strictly(Model, get(api, f"/models/{model}"))
    strictly(SyncCursorPage[Model], get(api, "/models"))
    other = create_project("Other").id
    client.fine_tuning.checkpoints.permissions.create(model, project_ids=[other])
    shared = strictly(
        SyncCursorPage[PermissionListResponse], get(api, f"/fine_tuning/checkpoints/{model}/permissions")
    )
    assert [one.project_id for one in shared.data] == [other]

    with write_session() as session:
        change_status(session, session.get_one(Job, job_id), S.CANCELLED, message="over")
    strictly(ModelDeleted, httpx.delete(f"{api.url}/v1/models/{model}").text)


@on_sqlite
def test_raw_responses_have_the_headers_that_the_sdk_reads(client: openai.OpenAI, api: Api, job_id: str):
    raw = client.fine_tuning.jobs.with_raw_response.retrieve(job_id)
    assert raw.headers["x-request-id"] == raw.request_id
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.parse()._request_id == raw.request_id
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.retrieve("ftjob-nope")
    assert caught.value.request_id
    with pytest.raises(openai.InternalServerError) as unavailable:
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
    assert unavailable.value.status_code == 503
    assert int(unavailable.value.response.headers["retry-after"]) > 0
