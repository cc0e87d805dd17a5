"""Two vLLM replicas, for real: requests over both, one that dies while it samples, new weights to both."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from tests.fixtures.forks import kill
from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.launched import second_rank
from tests.trainer.sharded_saving import small_policy
from tests.trainer.test_vllm_engine import PROMPTS, requests, trainer_logprobs
from trainer.distributed.ranks import ALONE, join_ranks
from trainer.model.policy import Policy
from trainer.rollout.places import Places
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine
from trainer.rollout.vllm_protocol import Draw, Generate
from trainer.rollout.vllm_replica import exchange
from trainer.rollout.weight_transfer import PipeSender
from trainer.spec.model import ModelSpec
from trainer.spec.rollout import RolloutSpec, VllmSpec

pytestmark = pytest.mark.vllm

ROLLOUT = RolloutSpec(
    engine="vllm", max_prompt_tokens=160, max_response_tokens=40, vllm=VllmSpec(kv_cache_bytes=64 << 20)
)


@pytest.fixture(scope="module")
def policy(vllm_model: Path) -> Policy:
    return load_tiny_policy(vllm_model, double=False)


@pytest.fixture(scope="module")
def pair(forked_vllm: None, policy: Policy, vllm_model: Path) -> Iterator[VllmEngine]:
    places = Places((None, None), apart=True)
    engine = VllmEngine(policy, ModelSpec(path=str(vllm_model), dtype="float32"), ROLLOUT, places=places)
    yield engine
    engine.close()


def check_logprobs(policy: Policy, samples: list, temperature: float = 1.0) -> None:
    sampled = torch.tensor([value for sample in samples for value in sample.logprobs])
    assert torch.allclose(trainer_logprobs(policy, samples, temperature).float(), sampled, atol=1e-4)


def test_the_responses_are_in_order_and_the_policys(pair: VllmEngine, policy: Policy):
    first, second = pair.process_ids
    assert first != second
    greedy = pair.generate(requests(6), max_tokens=16, temperature=0.0)
    assert greedy == TransformersEngine(policy).generate(requests(6), max_tokens=16, temperature=0.0)
    samples = pair.generate(requests(12), max_tokens=16, temperature=1.0)
    assert pair.generate(requests(12), max_tokens=16, temperature=1.0) == samples
    check_logprobs(policy, samples)


def test_what_one_that_dies_had_not_finished_is_sampled_by_the_other(pair: VllmEngine, policy: Policy):
    """With the same seeds, so the same tokens; then another is started, and both take the new weights."""
    options = {"max_tokens": 40, "temperature": 1.0}
    whole = pair.generate(requests(60), **options)
    first, second = pair.process_ids
    kill(psutil.Process(first))
    pair.run_ahead()
    found = pair.generate(requests(60), **options)
    assert [s.response_ids for s in found] == [s.response_ids for s in whole]
    (note,) = pair.notes()
    assert "ended by signal 9" in note and pair.notes() == []
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.1)
    pair.setup = replace(pair.setup, seeded=False)  # of the one that is started
    pair.sync()
    assert pair.process_ids[0] != first and pair.process_ids[1] == second
    after = pair.generate(requests(60), **options)
    assert [s.response_ids for s in after] != [s.response_ids for s in whole]
    check_logprobs(policy, after)


def test_a_batch_with_one_seed_is_drawn_the_same_way_again(pair: VllmEngine, policy: Policy):
    """By the one that was started above."""
    unseeded = pair._replicas[0]

    def drawn(seed: int) -> list[tuple[list[int], list[float]]]:
        draws = [Draw(PROMPTS[i % len(PROMPTS)], seed + i, 16) for i in range(12)]
        asked = Generate(draws, sorted(policy.stop_ids), 1.0, 1.0, None)
        (answer,) = exchange({unseeded: asked}, lambda: False).values()
        assert isinstance(answer, list)
        return answer

    once = drawn(7)
    assert drawn(7) == once
    assert [ids for ids, _ in drawn(8)] != [ids for ids, _ in once]
    assert len({tuple(ids) for ids, _ in once}) == 12


def test_weights_that_are_divided_over_ranks_come_whole(
    pair: VllmEngine, vllm_model: Path, monkeypatch: pytest.MonkeyPatch
):
    """With adapters, merged. This process is the first of two ranks, and has the engines."""
    rank_1 = second_rank(monkeypatch, "tests.trainer.sharded_sending", str(vllm_model))
    with join_ranks(on_lost=pytest.fail) as ranks:
        PipeSender(small_policy(str(vllm_model), ranks, lora=True), pair).send()
    assert rank_1.wait(60) == 0
    sampled = pair.generate(requests(12), max_tokens=16, temperature=1.0)
    check_logprobs(small_policy(str(vllm_model), ALONE, lora=True), sampled)
