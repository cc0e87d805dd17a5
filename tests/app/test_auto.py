"""Each "auto" of OpenAI's hyperparameters becomes the value that its description names; the job shows it."""

from typing import Any

import openai
import pytest

from app.jobs.methods import Hyperparameters
from tests.fixtures.api import Api, create_job, on_sqlite, sums

#: Name: where the job shows what the run has of it, that value, and what "auto" is: on 100 rows, validated.
AUTO = {
    "batch_size": ("rollout.prompts_per_step", 8, 8),
    "n_epochs": (None, None, 1),
    "learning_rate_multiplier": ("optimizer.learning_rate", 3e-6, 1.0),
    "compute_multiplier": ("rollout.samples_per_prompt", 8, 1.0),
    "eval_interval": ("evaluation.interval", 2, 2),
    "eval_samples": ("evaluation.samples_per_item", 1, 1),
}


def shown(client: openai.OpenAI, api: Api, **hyperparameters: Any) -> tuple[dict[str, Any], int]:
    """A job's settings on 100 rows, and how many steps it has."""
    file, small = api.upload(client, sums(100)), api.upload(client, sums(3))
    reinforcement = {"hyperparameters": hyperparameters}
    job = create_job(client, api, file, reinforcement=reinforcement, validation_file=small)
    return job.to_dict()["method"]["reinforcement"], job.model_extra["progress"]["total_steps"]  # type: ignore[index]


@on_sqlite
@pytest.mark.parametrize("name", AUTO)
def test_auto_becomes_what_is_documented(client: openai.OpenAI, api: Api, name: str):
    found, steps = shown(client, api, **{name: "auto"})
    where, value, auto = AUTO[name]
    assert found["hyperparameters"][name] == pytest.approx(auto)
    if where is not None:
        block, _, key = where.partition(".")
        assert found[block][key] == pytest.approx(value)
    assert steps == 13, "one pass over 100 rows, 8 a step"
    assert found == shown(client, api)[0], "auto is the default"


def test_each_auto_has_a_test():
    told = {name for name, field in Hyperparameters.model_fields.items() if field.default == "auto"}
    assert told == AUTO.keys()
    assert all("auto:" in str(Hyperparameters.model_fields[name].description) for name in told)


@on_sqlite
def test_an_evaluation_interval_without_validation_data_is_none(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums(100))
    job = create_job(client, api, file, reinforcement={"hyperparameters": {"eval_interval": "auto"}})
    found: Any = job.to_dict()["method"]
    assert found["reinforcement"]["hyperparameters"]["eval_interval"] == 0
