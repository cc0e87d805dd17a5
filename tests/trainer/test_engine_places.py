"""Where rollout engines are and what they are started with: without vLLM, and without a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.runs import tiny_spec, write_rows
from trainer.checkpoints.identity import claim_folder
from trainer.distributed.ranks import Ranks
from trainer.errors import InvalidSpec
from trainer.rollout.engine import SampleRequest
from trainer.rollout.places import engine_places
from trainer.rollout.spread import spread
from trainer.rollout.vllm_engine import engine_setup
from trainer.rollout.vllm_replica import engine_environment
from trainer.rollout.weight_transfer import placed
from trainer.runs.engine_choice import choose, with_engine
from trainer.spec.model import ModelSpec
from trainer.spec.resources import Resources
from trainer.spec.rollout import RolloutSpec, VllmSpec
from trainer.spec.run import RunSpec

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
EIGHT = {"CUDA_VISIBLE_DEVICES": "8,9,10,11,12,13,14,15"}


class Several(Ranks):
    def __init__(self, world: int):
        self.world = world


@pytest.mark.parametrize(
    ("asked", "ranks", "gpus", "parallel", "apart"),
    [
        ({}, 1, ("8",), 1, False),
        ({"gpus": 8}, 8, ("8",), 1, False),
        ({"gpus": 8, "rollout_gpus": 4}, 4, ("12", "13", "14", "15"), 1, True),
        ({"gpus": 8, "rollout_gpus": 4, "tensor_parallel": 2}, 4, ("12,13", "14,15"), 2, True),
        ({"gpus": 8, "tensor_parallel": 4}, 8, ("8,9,10,11", "12,13,14,15"), 4, False),
    ],
)
def test_engines_are_on_the_last_gpus_or_on_those_that_train(
    asked: dict[str, int], ranks: int, gpus: tuple[str, ...], parallel: int, apart: bool
):
    places = engine_places(Resources.model_validate(asked), GPU, Several(ranks), EIGHT)
    assert (places.gpus, places.tensor_parallel, places.apart) == (gpus, parallel, apart)
    assert places.alone == (ranks == 1)


def test_without_gpus_there_is_a_process_for_each_of_them():
    assert engine_places(Resources(), CPU, Ranks(), {}).gpus == (None,)
    places = engine_places(Resources(gpus=3, rollout_gpus=2), CPU, Ranks(), {})
    assert (places.gpus, places.apart) == ((None, None), True)


@pytest.mark.parametrize(
    ("asked", "device", "param"),
    [
        ({"gpus": 2, "tensor_parallel": 2}, CPU, "resources.tensor_parallel"),
        ({"gpus": 9, "rollout_gpus": 8}, GPU, "resources.rollout_gpus"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(asked: dict[str, int], device: torch.device, param: str):
    with pytest.raises(InvalidSpec) as caught:
        engine_places(Resources.model_validate(asked), device, Several(1), EIGHT)
    assert caught.value.param == param


def test_requests_with_one_prompt_stay_together_and_loads_are_even():
    prompts = [(1,) * 5, (2,) * 5, (3,) * 5, (4,) * 200]
    asked = [SampleRequest(prompts[i % 4], i) for i in range(16)]
    parts = spread(asked, 2, max_tokens=100)
    assert sorted(i for part in parts for i in part) == list(range(16))
    owner = {asked[i].prompt_ids: n for n, part in enumerate(parts) for i in part}
    assert all(owner[asked[i].prompt_ids] == n for n, part in enumerate(parts) for i in part)
    assert [len(part) for part in parts] == [8, 8]
    # The long prompt with one other, which is as even as it gets.
    assert parts == spread(asked, 2, max_tokens=100)
    assert spread(asked, 1, max_tokens=100) == [list(range(16))]
    assert spread(asked[:1], 2, max_tokens=100) == [[0], []]


def setup_of(policy: Any, **changes: Any):
    rollout = RolloutSpec(engine="vllm", vllm=VllmSpec(**changes))
    return engine_setup(policy, ModelSpec(path="x"), rollout, engine_places(Resources(), CPU, Ranks(), {}))


def test_the_engine_inherits_no_allocator_and_no_rank(tiny_model: Path):
    """vLLM's sleep refuses expandable segments, which a trainer may well have."""
    setup = setup_of(load_tiny_policy(tiny_model))
    inherited = {
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "RANK": "3",
        "VLLM_CPU_KVCACHE_SPACE": "40",
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0,1,2",
    }
    environment = engine_environment(inherited, setup, "2", threads=1)
    assert not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "RANK", "VLLM_CPU_KVCACHE_SPACE"} & set(
        environment
    )
    assert (environment["PATH"], environment["CUDA_VISIBLE_DEVICES"]) == ("/bin", "2")
    assert engine_environment(inherited, setup, None, 1)["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_requests_are_seeded_on_the_cpu_and_where_it_is_asked_for(tiny_model: Path):
    policy = load_tiny_policy(tiny_model)
    assert setup_of(policy).seeded and not setup_of(policy, seeds="batch").seeded
    assert "seeds" not in VllmSpec().model_dump_json()


def test_each_engine_has_its_own_place_in_the_group():
    assert [placed({"rank_offset": 1, "world_size": 5}, n * 2)["rank_offset"] for n in range(2)] == [1, 3]
    assert placed({"packed": True}, 2) == {"packed": True}


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> RunSpec:
    return tiny_spec(tiny_model, write_rows(tmp_path / "data.jsonl"), validation_data=None, total_steps=1)


def test_vllm_samples_where_it_has_a_gpu(spec: RunSpec):
    assert spec.rollout.engine == "auto"
    assert choose(spec, vllm_on_gpu=True) == "vllm"
    assert choose(spec, vllm_on_gpu=False) == "transformers"
    apart = spec.model_copy(update={"resources": Resources(gpus=2, rollout_gpus=1)})
    assert choose(apart, vllm_on_gpu=False) == "vllm"
    cold = spec.model_copy(update={"rollout": RolloutSpec(temperature=0.001)})
    assert choose(cold, vllm_on_gpu=True) == "transformers"


def test_a_run_keeps_the_engine_that_it_began_with(spec: RunSpec, tmp_path: Path, monkeypatch: Any):
    began = with_engine(spec, tmp_path / "run")
    assert began.rollout.engine == "transformers"  # there is no GPU in tests
    claim_folder(tmp_path / "run", began)
    monkeypatch.setattr("trainer.runs.engine_choice.choose", lambda *_: "vllm")
    assert with_engine(spec, tmp_path / "new").rollout.engine == "vllm"
    assert with_engine(spec, tmp_path / "run") == began
    given = spec.model_copy(update={"rollout": RolloutSpec(engine="vllm")})
    assert with_engine(given, tmp_path / "run") is given
