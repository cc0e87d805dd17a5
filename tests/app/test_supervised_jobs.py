"""Supervised jobs as OpenAI's clients ask for them: what they become, and what is refused with its line."""

from typing import Any

import httpx
import openai
import pytest

from app.core.db import read_session
from app.core.tables import Job
from app.jobs.taught_resolution import auto_batch_size, auto_epochs
from tests.fixtures.api import GRADER, Api, on_sqlite, sums
from trainer.spec.run import RunSpec
from trainer.spec.taught import Dpo, Supervised


def lessons(count: int = 40, **message: Any) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{n} + 1?"},
                {"role": "assistant", "content": str(n + 1), **message},
            ]
        }
        for n in range(count)
    ]


def spec_of(job_id: str) -> RunSpec:
    with read_session() as session:
        return RunSpec.model_validate(session.get_one(Job, job_id).run_spec)


@on_sqlite
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"method": {"type": "supervised"}},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}}},
        {"hyperparameters": {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}},
    ],
    ids=["omitted", "named", "settings", "as-litellm-sends-it"],
)
def test_a_supervised_job_is_what_it_is_without_a_method(client: openai.OpenAI, api: Api, asked: Any):
    file = api.upload(client, lessons(40))
    job = client.fine_tuning.jobs.create(model=api.model, training_file=file, validation_file=file, **asked)
    assert job.method is not None and job.method.type == "supervised" and job.method.supervised is not None
    chosen = {"batch_size": 8, "n_epochs": 3, "learning_rate_multiplier": 1.0}
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.to_dict() == chosen
    assert job.hyperparameters.to_dict() == chosen
    spec = spec_of(job.id)
    assert spec.algorithm == Supervised(batch_size=8)
    assert (spec.total_steps, spec.evaluation.interval, spec.checkpoint.interval) == (15, 5, 5)
    assert (spec.optimizer.learning_rate, spec.grader, spec.preflight) == (1e-5, None, None)
    retrieved = client.fine_tuning.jobs.retrieve(job.id)
    assert retrieved.method == job.method and retrieved.hyperparameters == job.hyperparameters
    assert job.id in [one.id for one in client.fine_tuning.jobs.list()]


@on_sqlite
def test_what_is_given_counts(client: openai.OpenAI, api: Api):
    file = api.upload(client, lessons(10, weight=1))
    older: Any = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    job = client.fine_tuning.jobs.create(model=api.model, training_file=file, hyperparameters=older)
    spec = spec_of(job.id)
    assert (spec.algorithm, spec.total_steps) == (Supervised(batch_size=4), 5)
    assert spec.optimizer.learning_rate == pytest.approx(5e-6)
    settings: Any = {"modes": "both", "lora": {"rank": 4}, "budget": {"steps": 3}, "max_tokens": 99}
    job = client.fine_tuning.jobs.create(
        model=api.model, training_file=file, method={"type": "supervised", "supervised": settings}
    )
    spec = spec_of(job.id)
    assert spec.algorithm == Supervised(batch_size=8, modes="both", max_tokens=99)
    assert (spec.total_steps, spec.optimizer.learning_rate) == (3, pytest.approx(1e-4))


def test_epochs_and_batches_are_chosen_by_the_number_of_rows():
    chosen = [
        (rows, auto_epochs(rows), auto_batch_size(rows)) for rows in (1, 10, 33, 34, 5000, 20_000, 10**6)
    ]
    assert chosen == [
        *((1, 25, 1), (10, 10, 8), (33, 3, 8), (34, 3, 8)),
        *((5000, 3, 10), (20_000, 1, 40), (10**6, 1, 256)),
    ]


@on_sqlite
def test_rows_of_another_method_are_refused_with_their_line(client: openai.OpenAI, api: Api):
    asked, taught = api.upload(client, sums(3)), api.upload(client, lessons(3))
    reinforcement: Any = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    url = f"{api.url}/v1/fine_tuning/jobs"
    for body, param, says in [
        (
            {"training_file": asked},
            "training_file",
            "do not suit a supervised job. Line 1: 'messages' ends with a message of role 'user'",
        ),
        (
            {"training_file": taught, "validation_file": asked},
            "validation_file",
            "do not suit a supervised job. Line 1",
        ),
        (
            {"training_file": taught, "method": reinforcement},
            "training_file",
            "do not suit a reinforcement job. Line 1: 'messages' ends with a message of role",
        ),
        (
            {"environment": {"task": "chain_sum"}},
            "environment",
            "a task's items have questions but no answers",
        ),
        (
            {"training_file": taught, "method": {"type": "supervised", "reinforcement": {"grader": GRADER}}},
            "method",
            "settings for 'reinforcement' are given",
        ),
        (
            {"training_file": taught, "hyperparameters": {"batch_size": 4}},
            "method.supervised.hyperparameters.batch_size",
            "has 3 rows, and those of a step must differ: give a number from 1 to 3",
        ),
        (
            {"training_file": taught, "method": {"type": "supervised", "supervised": {"rollout": {}}}},
            "method.supervised.rollout",
            "Accepted here: optimizer",
        ),
    ]:
        answer = httpx.post(url, json={"model": api.model, **body})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), error
        assert says in error["message"]


@on_sqlite
def test_a_file_that_no_method_can_learn_from_is_refused(client: openai.OpenAI, api: Api):
    for rows, says in [
        ([*lessons(2), *sums(1)], "Line 3: 'messages' ends with a message of role 'user'"),
        ([*sums(1), *lessons(1)], "Line 2: 'messages' ends with a message of role 'assistant'"),
        (lessons(1, weight=0), "Line 1: 'messages' has no message to learn"),
        (lessons(1, weight=0.5), "Line 1: 'messages.1.weight' is 0.5"),
    ]:
        with pytest.raises(openai.BadRequestError, match=says):
            api.upload(client, rows)


@on_sqlite
def test_a_file_from_before_methods_were_told_is_looked_at_again(client: openai.OpenAI, api: Api):
    from sqlalchemy import update

    from app.core.db import write_session
    from app.core.tables import File

    file = api.upload(client, sums(3))
    with write_session() as session:
        session.execute(update(File).values(unfit=None))
    with pytest.raises(openai.BadRequestError, match="do not suit a supervised job"):
        client.fine_tuning.jobs.create(model=api.model, training_file=file)


def preferences(count: int = 8, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "input": {"messages": [{"role": "user", "content": f"{n} + 1?"}], "parallel_tool_calls": True},
            "preferred_output": [{"role": "assistant", "content": str(n + 1)}],
            "non_preferred_output": [{"role": "assistant", "content": "?"}],
            **changes,
        }
        for n in range(count)
    ]


@on_sqlite
def test_a_dpo_job_is_what_the_sdk_asks_for(client: openai.OpenAI, api: Api):
    file = api.upload(client, preferences(40))
    job = client.fine_tuning.jobs.create(model=api.model, training_file=file, method={"type": "dpo"})
    chosen = {"batch_size": 8, "n_epochs": 3, "learning_rate_multiplier": 1.0, "beta": 0.1}
    assert (
        job.method is not None and job.method.dpo is not None and job.method.dpo.hyperparameters is not None
    )
    assert job.method.dpo.hyperparameters.to_dict() == chosen
    assert (spec_of(job.id).algorithm, spec_of(job.id).optimizer.learning_rate) == (Dpo(batch_size=8), 1e-6)
    assert client.fine_tuning.jobs.retrieve(job.id).method == job.method
    settings: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5, "n_epochs": 1}}}
    job = client.fine_tuning.jobs.create(model=api.model, training_file=file, method=settings)
    assert spec_of(job.id).algorithm == Dpo(batch_size=8, beta=0.5)
    assert job.hyperparameters.n_epochs == 1
    with pytest.raises(openai.BadRequestError, match="do not suit a supervised job"):
        client.fine_tuning.jobs.create(model=api.model, training_file=file)
    lesson = api.upload(client, lessons(3))
    with pytest.raises(openai.BadRequestError, match="do not suit a dpo job"):
        client.fine_tuning.jobs.create(model=api.model, training_file=lesson, method={"type": "dpo"})
    with pytest.raises(
        openai.BadRequestError, match="Line 1: 'preferred_output' must be a list of one message"
    ):
        api.upload(client, preferences(1, preferred_output=[]))
