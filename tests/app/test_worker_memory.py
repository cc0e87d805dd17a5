"""Jobs that certainly fit the memory of no connected worker are refused when they are created."""

from typing import Any

import httpx
import pytest

from app.workers.schemas import WorkerObject
from tests.fixtures.api import GRADER, Api, sums
from tests.fixtures.described import check_described
from tests.fixtures.fleet import training_worker
from tests.fixtures.models import build_tiny_model

LITTLE = {"host_bytes": 1 << 40, "gpu_bytes": [1000, 2000]}


@pytest.fixture
def file(api: Api) -> str:
    """Rows of the service, whose base model has weights here."""
    build_tiny_model(api.folder / "models" / api.model)
    with api.client() as client:
        return api.upload(client, sums(2))


def asked(api: Api, file: str, **optimizer: Any) -> httpx.Response:
    """The answer to a job, with or without options of its optimizer."""
    reinforcement: dict[str, Any] = {"grader": GRADER, "budget": {"steps": 1}}
    if optimizer:
        reinforcement["optimizer"] = optimizer
    body = {
        "model": api.model,
        "training_file": file,
        "method": {"type": "reinforcement", "reinforcement": reinforcement},
    }
    return httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body)


def test_what_no_worker_has_room_for_is_refused_with_what_it_is_for(api: Api, file: str) -> None:
    training_worker("a", memory=LITTLE)
    training_worker("b", memory={"host_bytes": 3000, "gpu_bytes": []}, gpus=[])
    answer = asked(api, file)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == "model"
    for told in ("on the largest of 2 workers", "the host has", "weights", "moments", "gradients (update)"):
        assert told in error["message"], told


def test_a_worker_that_has_room_or_does_not_say_is_enough(api: Api, file: str) -> None:
    """So is one whose driver does not tell of its GPUs; and none at all."""
    assert asked(api, file).status_code == 200
    training_worker("a", memory=LITTLE)
    assert asked(api, file).status_code == 400
    for memory in (None, {"host_bytes": 1, "gpu_bytes": []}, {"host_bytes": 1, "gpu_bytes": [1, 1 << 40]}):
        training_worker("b", memory=memory)
        assert asked(api, file).status_code == 200, memory
    training_worker("b", memory=LITTLE)
    assert asked(api, file).status_code == 400
    training_worker("b", memory=LITTLE, heartbeat_at=1.0)
    training_worker("a", memory=None, gpus=[])
    assert asked(api, file).status_code == 200


def test_an_option_that_is_named_makes_it_fit(api: Api, file: str) -> None:
    training_worker("a", memory=LITTLE)
    few = asked(api, file).json()["error"]["message"]
    assert "optimizer.offload" not in few
    # The least with which the run fits, found as a person would: by doubling and halving.
    low, high = 2000, 1 << 21
    while high - low > 1:
        middle = (low + high) // 2
        training_worker("a", memory={"host_bytes": 1, "gpu_bytes": [middle]})
        low, high = (low, middle) if asked(api, file).status_code == 200 else (middle, high)
    training_worker("a", memory={"host_bytes": 1, "gpu_bytes": [low]})
    refused = asked(api, file)
    assert refused.status_code == 400 and "optimizer.offload true needs" in refused.json()["error"]["message"]
    assert asked(api, file, offload=True).status_code == 200
    assert asked(api, file, moments="int8").status_code == 200


def test_workers_tell_how_much_they_have(api: Api) -> None:
    training_worker("a", memory=LITTLE)
    training_worker("b", started_at=1.0)
    listed = httpx.get(f"{api.url}/v1/workers").json()["data"]
    for each in listed:
        check_described(WorkerObject, httpx.Response(200, json=each).text)
    assert [each["memory"] for each in listed] == [LITTLE, None]
