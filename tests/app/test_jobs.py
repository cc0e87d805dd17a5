"""Jobs through the real SDK: creation, listing, cancelling, pausing."""

from typing import Any

import openai
import pytest
from redis import Redis

from app.core.db import get_engine, read_session, write_session
from app.core.job_status import JobStatus
from app.core.settings import get_settings
from app.core.tables import Job
from app.jobs.status import change_status
from tests.fixtures.api import Api, create_job, on_sqlite, sums
from tests.fixtures.broker import RedisServer
from trainer.spec.model import LoraSpec
from trainer.spec.run import RunSpec


def row(job_id: str) -> Job:
    with read_session() as session:
        return session.get_one(Job, job_id)


def move(job_id: str, *statuses: JobStatus) -> None:
    """What a worker does to the status."""
    with write_session() as session:
        for status in statuses:
            change_status(session, session.get_one(Job, job_id), status, message=f"now {status}")


def test_a_job_shows_what_will_run(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums(20))
    job = create_job(
        client,
        api,
        file,
        suffix="sums",
        seed=7,
        metadata={"team": "a"},
        reinforcement={"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": "auto"}},
    )
    assert (job.object, job.status, job.model, job.training_file) == (
        "fine_tuning.job",
        "queued",
        "tiny",
        file,
    )
    assert (job.seed, job.metadata, job.result_files, job.error) == (7, {"team": "a"}, [], None)
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens) == (None, None, None)
    extra = job.model_extra
    assert extra is not None
    assert (extra["attempt"], extra["queue_position"]) == (0, 1)
    assert extra["progress"] == {"step": 0, "total_steps": 5}
    shown: Any = job.to_dict()["method"]
    assert shown["reinforcement"]["hyperparameters"] == {
        "batch_size": 8,
        "n_epochs": 2,
        "learning_rate_multiplier": 1.0,
        "compute_multiplier": 1.0,
        "eval_interval": 0,
        "eval_samples": 1,
        "reasoning_effort": "default",
    }
    assert shown["reinforcement"]["algorithm"]["type"] == "policy_split"
    assert client.fine_tuning.jobs.retrieve(job.id) == job

    stored = row(job.id)
    spec = RunSpec.model_validate(stored.run_spec)
    assert (spec.run_id, spec.seed, spec.total_steps) == (job.id, 7, 5)
    assert spec.model.path == str(api.folder / "models" / "tiny")
    assert spec.training_data.type == "jsonl"
    assert spec.training_data.path == str(api.folder / "files" / file)
    assert stored.enqueued_at is None, "no broker: the message still has to be sent"
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert events == [
        "The files and the grader fit together; the job is queued.",
        f"Created fine-tuning job: {job.id}",
    ]


def test_a_job_is_found_again_after_the_database_closed_its_connections(client: openai.OpenAI, api: Api):
    job = create_job(client, api, api.upload(client, sums()))
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    if get_engine().dialect.name == "postgresql":
        with read_session() as session:
            others = "pid <> pg_backend_pid() AND datname = current_database()"
            session.connection().exec_driver_sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
            )
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    with pytest.raises(openai.NotFoundError, match="ftjob-nope"):
        client.fine_tuning.jobs.retrieve("ftjob-nope")


@on_sqlite
def test_what_is_said_about_the_model_arrives_in_the_run(client: openai.OpenAI, api: Api):
    asked = {
        "lora": {"rank": 4, "target_modules": ["q_proj"]},
        "high_entropy_placement": "user_prefix",
        "chat_template_kwargs": {"enable_thinking": False},
        "dtype": "float32",
        "logits_dtype": "model",
        "gradient_checkpointing": True,
    }
    job = create_job(client, api, api.upload(client, sums(20)), reinforcement=asked)
    spec = RunSpec.model_validate(row(job.id).run_spec)
    assert spec.lora == LoraSpec(rank=4, target_modules=["q_proj"])
    assert spec.high_entropy_placement == "user_prefix"
    assert spec.chat_template_kwargs == {"enable_thinking": False}
    model = spec.model
    assert (model.dtype, model.logits_dtype, model.gradient_checkpointing) == ("float32", "model", True)
    shown: Any = job.to_dict()["method"]
    assert shown["reinforcement"]["lora"]["alpha"] == LoraSpec().alpha


@on_sqlite
def test_the_message_is_sent_after_the_commit(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, api: Api, client: openai.OpenAI
):
    monkeypatch.setenv("BROKER_URL", redis_server.url)
    get_settings.cache_clear()
    job = create_job(client, api, api.upload(client, sums()))
    with redis_server.client() as redis:
        assert isinstance(redis, Redis)
        assert redis.llen("jobs") == 1
    assert row(job.id).enqueued_at is not None


def reinforcement_of(client: openai.OpenAI, api: Api, file: str | None, **reinforcement: Any) -> Any:
    options = reinforcement.pop("options", {})
    job = create_job(client, api, file, reinforcement=reinforcement, **options)
    return job.to_dict()["method"]["reinforcement"], job.model_extra  # type: ignore[index]


@on_sqlite
def test_auto_and_explicit_values(client: openai.OpenAI, api: Api):
    file, small = api.upload(client, sums(100)), api.upload(client, sums(3))

    shown, extra = reinforcement_of(client, api, small)
    assert shown["hyperparameters"]["batch_size"] == 3, "no more than the rows there are"
    assert extra["progress"]["total_steps"] == 1

    shown, extra = reinforcement_of(
        client,
        api,
        file,
        hyperparameters={"batch_size": 10, "learning_rate_multiplier": 2, "compute_multiplier": 0.5},
        options={"validation_file": small},
    )
    assert shown["rollout"]["prompts_per_step"] == 10
    assert shown["rollout"]["samples_per_prompt"] == 4
    assert shown["optimizer"]["learning_rate"] == pytest.approx(6e-6)
    assert extra["progress"]["total_steps"] == 10
    assert shown["evaluation"]["interval"] == shown["checkpoint"]["interval"] == 1

    shown, extra = reinforcement_of(
        client,
        api,
        file,
        budget={"steps": 37},
        rollout={"prompts_per_step": 4, "samples_per_prompt": 6, "max_response_tokens": 16},
        optimizer={"learning_rate": 2e-5},
        checkpoint={"interval": 9},
    )
    assert extra["progress"]["total_steps"] == 37
    assert shown["hyperparameters"]["batch_size"] == 4
    assert shown["hyperparameters"]["n_epochs"] == 2
    assert shown["hyperparameters"]["compute_multiplier"] == 0.75
    assert shown["hyperparameters"]["learning_rate_multiplier"] == pytest.approx(20 / 3)
    assert shown["rollout"]["max_response_tokens"] == 16
    assert shown["checkpoint"]["interval"] == 9

    # Both names for one thing, agreeing.
    shown, _ = reinforcement_of(
        client, api, file, hyperparameters={"batch_size": 4}, rollout={"prompts_per_step": 4}
    )
    assert shown["rollout"]["prompts_per_step"] == 4


@on_sqlite
def test_an_environment_in_place_of_a_file(client: openai.OpenAI, api: Api):
    environment = {"task": "chain_sum", "parameters": {"min_terms": 2, "max_terms": 2}, "size": 50, "seed": 3}
    grader = {"type": "environment", "task": "chain_sum", "extract": "last_number"}
    job = create_job(client, api, None, environment=environment, reinforcement={"grader": grader})
    assert job.training_file is None
    assert job.model_extra is not None
    assert job.model_extra["environment"]["task"] == "chain_sum"
    assert job.model_extra["progress"]["total_steps"] == 7
    held_out = job.model_extra["validation_environment"]
    assert (held_out["seed"], held_out["size"]) == (53, 64), "none of the items that are trained"


def test_listing_is_paged_and_filtered(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    odd = {0: {"parity": "even"}, 1: {"parity": "odd", 'a."b': "c"}}
    made = [create_job(client, api, file, metadata=odd[n % 2]).id for n in range(5)]
    made.append(create_job(client, api, file).id)
    newest_first = made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == newest_first
    page = client.fine_tuning.jobs.list(limit=4)
    assert page.has_more
    raw = page.model_extra
    assert raw is not None
    assert (raw["first_id"], raw["last_id"]) == (newest_first[0], newest_first[3])
    places = {job.id: job.model_extra["queue_position"] for job in page.data}  # type: ignore[index]
    assert places == {job: made.index(job) + 1 for job in newest_first[:4]}

    def ids(**query: str) -> list[str]:
        return [job.id for job in client.fine_tuning.jobs.list(limit=2, extra_query=query)]

    assert ids(**{"metadata[parity]": "odd"}) == [made[3], made[1]]
    assert ids(**{"metadata[parity]": "odd", 'metadata[a."b]': "c"}) == [made[3], made[1]]
    assert ids(**{"metadata[parity]": "odd", "after": made[3]}) == [made[1]]
    assert ids(**{"metadata[parity]": "neither"}) == []
    assert ids(metadata="null") == [made[5]]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"parity": "even"})] == [
        made[4],
        made[2],
        made[0],
    ]


def test_the_same_idempotency_key_gives_the_same_job(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    key = {"Idempotency-Key": "k-1"}
    job = create_job(client, api, file, headers=key)
    assert create_job(client, api, file, headers=key).id == job.id
    with pytest.raises(openai.ConflictError, match=f"'Idempotency-Key'.*{job.id}"):
        create_job(client, api, file, headers=key, seed=1)
    assert [one.id for one in client.fine_tuning.jobs.list()] == [job.id]


def test_cancel(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    waiting, running = create_job(client, api, file).id, create_job(client, api, file).id
    cancelled = client.fine_tuning.jobs.cancel(waiting)
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    with pytest.raises(openai.BadRequestError, match="it is cancelled"):
        client.fine_tuning.jobs.cancel(waiting)

    move(running, JobStatus.RUNNING)
    for _ in range(2):
        assert client.fine_tuning.jobs.cancel(running).status == "running"
    assert row(running).cancel_requested
    asked = [one for one in client.fine_tuning.jobs.list_events(running) if "Cancellation" in one.message]
    assert len(asked) == 1
    with pytest.raises(openai.BadRequestError, match="about to be cancelled"):
        client.fine_tuning.jobs.pause(running)
    with pytest.raises(openai.NotFoundError, match="ftjob-nope"):
        client.fine_tuning.jobs.cancel("ftjob-nope")


def test_pause_and_resume(client: openai.OpenAI, api: Api):
    job = create_job(client, api, api.upload(client, sums())).id
    jobs = client.fine_tuning.jobs
    assert jobs.pause(job).status == "paused"
    assert jobs.resume(job).status == "queued"
    move(job, JobStatus.RUNNING)
    assert jobs.pause(job).status == "pausing"
    assert jobs.pause(job).status == "pausing"
    assert row(job).pause_requested
    with pytest.raises(openai.BadRequestError, match="it is pausing, and only a paused job"):
        jobs.resume(job)
    move(job, JobStatus.PAUSED)
    assert not row(job).pause_requested
    assert jobs.resume(job).status == "queued"
    assert row(job).enqueued_at is None
    move(job, JobStatus.RUNNING, JobStatus.SUCCEEDED)
    with pytest.raises(openai.BadRequestError, match="it is succeeded"):
        jobs.pause(job)


def test_a_page_far_down_reads_no_more_than_the_first(client: openai.OpenAI, api: Api):
    first = create_job(client, api, api.upload(client, sums()))
    template = row(first.id)
    columns = {c.key: getattr(template, c.key) for c in Job.__table__.columns}
    with write_session() as session:
        session.add_all(
            Job(**columns | {"id": f"ftjob-{n:04}", "created_at": 1000.0 + n}) for n in range(1000)
        )
    statement = (
        "SELECT id FROM jobs WHERE project_id = 'proj_default' AND (created_at, id) < ((SELECT created_at "
        "FROM jobs AS other WHERE id = 'ftjob-0500' AND project_id = 'proj_default'), 'ftjob-0500') "
        "ORDER BY created_at DESC, id DESC LIMIT 20"
    )
    with read_session() as session:
        dialect = get_engine().dialect.name
        explain = "EXPLAIN QUERY PLAN " if dialect == "sqlite" else "EXPLAIN "
        connection = session.connection()
        if dialect == "postgresql":
            connection.exec_driver_sql("ANALYZE jobs")
        plan = str(connection.exec_driver_sql(explain + statement).all())
    assert "ix_jobs_listing" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan
    page = client.fine_tuning.jobs.list(after="ftjob-0500", limit=3)
    assert [job.id for job in page.data] == ["ftjob-0499", "ftjob-0498", "ftjob-0497"]
    assert client.fine_tuning.jobs.list(after="ftjob-0000").data == []
    with pytest.raises(openai.BadRequestError, match="'ftjob-none' is not in this list"):
        client.fine_tuning.jobs.list(after="ftjob-none")


@on_sqlite
def test_an_encoder_is_given_by_its_name_and_is_no_base_model(client: openai.OpenAI, api: Api):
    folder = api.folder / "models" / "minilm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "modules.json").write_text("[]")
    evaluation = {"embedding_model": "minilm", "samples_per_item": 4}
    file = api.upload(client, sums(20))
    reinforcement = {"evaluation": evaluation}
    job = create_job(client, api, file, validation_file=file, reinforcement=reinforcement)
    assert RunSpec.model_validate(row(job.id).run_spec).evaluation.embedding_model == str(folder)
    shown: Any = job.to_dict()["method"]
    assert shown["reinforcement"]["evaluation"]["embedding_model"] == "minilm"
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match=r"minilm.*does not exist"):
        client.fine_tuning.jobs.create(model="minilm", training_file=file, method=shown)
    with pytest.raises(openai.BadRequestError, match="there is no validation data"):
        create_job(client, api, file, reinforcement=reinforcement)
