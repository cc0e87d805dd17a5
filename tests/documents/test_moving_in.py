"""The guide to moving in: each hosted job of it makes the same job here, by the guide's own function."""

import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.documents.test_guides import section
from tests.fixtures.api import Api, on_sqlite

GUIDE = (Path(__file__).parents[2] / "docs/guides/moving-in.md").read_text()
#: The guide's function.
(AGAIN,) = (code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "def again" in code)


def example(method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job as exported, and a row of its file."""
    job, row = re.findall(r"```json\n(.*?)```", section(GUIDE, method), re.S)
    assert len(row.strip().splitlines()) == 1, "a row is a line"
    return json.loads(job), json.loads(row)


@on_sqlite
@pytest.mark.parametrize("method", ["supervised", "dpo", "reinforcement"])
def test_a_hosted_job_is_made_again(client: openai.OpenAI, api: Api, method: str) -> None:
    exported, row = example(method)
    # The SDK's type is what such JSON is written from; the suffix is the service's own.
    assert set(FineTuningJob.model_fields) == set(exported) - {"user_provided_suffix"}
    names = [exported[name] for name in ("training_file", "validation_file") if exported[name]]
    files = {name: api.upload(client, [row] * 8) for name in names}
    defined: dict[str, Any] = {}
    exec(AGAIN, defined)
    for hosted in (exported, _older(exported)) if method == "supervised" else (exported,):
        job = defined["again"](client, hosted, api.model, files)
        # The SDK has no place for the graders of a multi, and warns when it writes them.
        made: Any = client.get(f"/fine_tuning/jobs/{job.id}", cast_to=object)
        assert made["training_file"] == files[exported["training_file"]]
        assert made["seed"] == exported["seed"]
        assert made["metadata"] == exported["metadata"]
        asked = exported["method"][method]["hyperparameters"]
        shown = made["method"][method]["hyperparameters"]
        assert {name: shown[name] for name in asked} == asked
        assert made["suffix"] == (exported["fine_tuned_model"].split(":")[3] or None)
        if method == "reinforcement":
            assert set(made["method"][method]["grader"]["graders"]) == {"exact", "close"}


def _older(job: dict[str, Any]) -> dict[str, Any]:
    """As it was exported before there were methods."""
    return {name: value for name, value in job.items() if name != "method"}
