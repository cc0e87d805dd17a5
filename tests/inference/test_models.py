"""The list of models, and single ones."""

from typing import Any

import httpx
import openai
import pytest

from tests.fixtures.engines import Deployment, until


def test_every_id_of_every_finished_checkpoint_is_listed(deployment_on_each: Deployment):
    deployment = deployment_on_each
    deployment.add_base("owner/nested")
    deployment.add_base("tiny")
    (deployment.folder / "models" / ".pulling").mkdir()
    job = deployment.add_job("succeeded", suffix=None)
    for step in (5, 10):
        deployment.add_checkpoint(job, step)
    plain = deployment.add_checkpoint(deployment.add_job("running"), 3, prompt="")
    deployment.add_job("succeeded")
    deployment.start_api()
    client = deployment.client()
    models: Any = {model.id: model for model in client.models.list()}
    result = str(job.fine_tuned_model)
    trained = [result, f"{result}:ckpt-step-5", f"{result}:ckpt-step-10"]
    assert set(models) == {
        "tiny",
        "owner/nested",
        plain,
        *trained,
        *(f"{one}:high-entropy" for one in trained),
    }
    for name, model in models.items():
        assert client.models.retrieve(name) == model
        assert model.mode == ("high-entropy" if name.endswith(":high-entropy") else "normal")
    assert (models[result].job, models[result].root, models[result].parent) == (job.id, "tiny", "tiny")
    assert models[f"{result}:high-entropy"].step == 10
    for name in ("nothing", "ft:tiny:policysplit::0123456789", f"{plain}:high-entropy"):
        with pytest.raises(openai.APIStatusError) as caught:
            client.models.retrieve(name)
        assert caught.value.status_code in (400, 404)

    # The same list in pages of every size.
    whole = list(models)
    for limit in range(1, len(whole) + 1):
        found: list[str] = []
        while True:
            after = {"after": found[-1]} if found else {}
            page = httpx.get(f"{deployment.url}/v1/models", params={"limit": limit, **after}).json()
            found += [model["id"] for model in page["data"]]
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], found[-1])
            if not page["has_more"]:
                break
        assert found == whole


def test_an_inference_worker_is_registered_as_long_as_it_runs(deployment_on_each: Deployment):
    worker = deployment_on_each.start_inference()
    (first,) = deployment_on_each.workers()
    until(lambda: deployment_on_each.workers()[0].heartbeat_at > first.heartbeat_at)
    assert httpx.get(f"{first.url}/healthz").status_code == 200
    worker.terminate()
    assert worker.wait(20) == 0
    assert deployment_on_each.workers() == []


def test_an_unknown_cursor_is_refused(deployment: Deployment):
    deployment.start_api()
    for after in ("nothing", "ft:odd", "ft:tiny:policysplit::0123456789"):
        answer = httpx.get(f"{deployment.url}/v1/models", params={"after": after})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
