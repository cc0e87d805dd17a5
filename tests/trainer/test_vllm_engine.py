"""vLLM as rollout engine, for real: its samples against the model's own, and its weights in step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.fixtures.forks import kill, suspend
from tests.fixtures.forms import ALLOWED, FORM, may_follow, text_of
from tests.fixtures.groups import load_tiny_policy
from trainer.errors import EngineFailed, InvalidSpec
from trainer.graders.response_format import ResponseFormat
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.rollout.engine import Sample, SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine
from trainer.spec.model import ModelSpec
from trainer.spec.modes import Mode
from trainer.spec.rollout import RolloutSpec, VllmSpec
from trainer.types import Group, Rollout

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("forked_vllm")]

PROMPTS = [(256, 84, 82), (256, 1, 2, 3, 4, 5, 6, 7, 8, 9), (256, *range(150))]
ROLLOUT = RolloutSpec(
    engine="vllm",
    max_prompt_tokens=160,
    max_response_tokens=40,
    vllm=VllmSpec(kv_cache_bytes=64 << 20),
    force_response_format=True,
)
HELD = ResponseFormat.model_validate(FORM)


def start(policy: Policy, folder: Path, rollout: RolloutSpec = ROLLOUT) -> VllmEngine:
    return VllmEngine(policy, ModelSpec(path=str(folder), dtype="float32"), rollout)


def requests(count: int) -> list[SampleRequest]:
    return [SampleRequest(PROMPTS[i % len(PROMPTS)], seed=2**62 + i) for i in range(count)]


def trainer_logprobs(policy: Policy, samples: list[Sample], temperature: float) -> torch.Tensor:
    """Of all sampled tokens, sample after sample, as training scores them."""
    scored = []
    for i, sample in enumerate(samples):
        rollout = Rollout(Mode.NORMAL, sample.response_ids, sample.logprobs, sample.truncated)
        group = Group(0, 0, {}, [], {Mode.NORMAL: list(PROMPTS[i % len(PROMPTS)])}, [rollout])
        with torch.no_grad():
            (scores,) = score_groups(policy, [group], (Mode.NORMAL,), temperature)
        scored.append(scores[Mode.NORMAL].logp_T)
    return torch.cat(scored)


@pytest.fixture(scope="module")
def policy(vllm_model: Path) -> Policy:
    return load_tiny_policy(vllm_model, double=False)


@pytest.fixture(scope="module")
def engine(forked_vllm: None, policy: Policy, vllm_model: Path) -> Iterator[VllmEngine]:
    engine = start(policy, vllm_model)
    yield engine
    engine.close()


def test_greedy_tokens_are_those_of_the_built_in_engine_and_of_generate(engine: VllmEngine, policy: Policy):
    """Prompts of three lengths in one batch; the certain choice has log-prob 0."""
    options = {"max_tokens": 24, "temperature": 0.0}
    found = engine.generate(requests(3), **options)
    assert found == TransformersEngine(policy).generate(requests(3), **options)
    for prompt, sample in zip(PROMPTS, found, strict=True):
        expected = policy.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=24,
        )
        assert sample.response_ids == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_logprobs_are_those_that_the_trainer_computes(engine: VllmEngine, policy: Policy, temperature: float):
    samples = engine.generate(requests(12), max_tokens=24, temperature=temperature)
    sampled = torch.tensor([value for sample in samples for value in sample.logprobs])
    assert torch.allclose(trainer_logprobs(policy, samples, temperature).float(), sampled, atol=1e-4)
    assert len({tuple(sample.response_ids) for sample in samples}) == 12


def test_evaluation_samples_among_the_likely_tokens_and_says_with_which_probability(
    engine: VllmEngine, policy: Policy
):
    """Temperature, then top-k, then top-p, as the built-in engine; log-probs over what is left."""
    samples = engine.generate(requests(12), max_tokens=12, temperature=0.7, top_p=0.8, top_k=4)
    for i, sample in enumerate(samples):
        ids = [*PROMPTS[i % len(PROMPTS)], *sample.response_ids]
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([ids])).logits[0, -len(sample.response_ids) - 1 : -1]
        for logits_V, token, logp in zip(logits_TV, sample.response_ids, sample.logprobs, strict=True):
            p, index = (logits_V / 0.7).softmax(-1).topk(4)
            p = p / p.sum()
            p = p[p.cumsum(-1) - p < 0.8]
            kept = dict(zip(index.tolist(), (p / p.sum()).log().tolist(), strict=False))
            assert logp == pytest.approx(kept[token], abs=1e-3)


def test_responses_are_held_to_a_form_with_their_probability_among_what_is_of_it(
    engine: VllmEngine, policy: Policy
):
    """Greedy as the built-in engine; drawn ones scored against the logits of what may follow."""
    greedy: dict[str, Any] = {"max_tokens": 40, "temperature": 0.0, "form": HELD}
    assert engine.generate(requests(3), **greedy) == TransformersEngine(policy).generate(
        requests(3), **greedy
    )
    drawn: dict[str, Any] = {"max_tokens": 25, "temperature": 0.7, "form": HELD}
    samples = engine.generate(requests(12), **drawn)
    assert engine.generate(requests(12), **drawn) == samples
    for i, sample in enumerate(samples):
        prompt, ids = PROMPTS[i % len(PROMPTS)], sample.response_ids
        assert ALLOWED.fullmatch(text_of(policy, ids), partial=sample.truncated)
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        for at, (token, logprob) in enumerate(zip(ids, sample.logprobs, strict=True)):
            may = may_follow(policy, text_of(policy, ids[:at]))
            logp = (logits_TV[at, may] / 0.7).log_softmax(-1)
            assert logprob == pytest.approx(float(logp[may.index(token)]), abs=1e-3)


def test_a_response_depends_on_its_seed_and_not_on_its_batch(engine: VllmEngine):
    """In float32 the rounding of another batch changes none of these tokens."""
    together = engine.generate(requests(9), max_tokens=10, temperature=1.0)
    again = engine.generate(requests(9), max_tokens=10, temperature=1.0)
    alone = [engine.generate([request], max_tokens=10, temperature=1.0)[0] for request in requests(9)]
    assert together == again
    assert [s.response_ids for s in together] == [s.response_ids for s in alone]
    other = [SampleRequest(request.prompt_ids, request.seed + 9) for request in requests(9)]
    assert engine.generate(other, max_tokens=10, temperature=1.0) != together


def test_responses_end_with_the_stop_token_or_are_cut_off(engine: VllmEngine, policy: Policy):
    beats = []
    samples = engine.generate(
        requests(150), max_tokens=40, temperature=2.0, on_progress=lambda: beats.append(1)
    )
    assert {s.truncated for s in samples} == {True, False}
    for sample in samples:
        stops = [token in policy.stop_ids for token in sample.response_ids]
        assert len(sample.logprobs) == len(stops)
        assert not any(stops[:-1])
        assert stops[-1] != sample.truncated
        assert sample.truncated == (len(stops) == 40 and not stops[-1])


def test_after_an_update_it_samples_as_one_that_loads_the_saved_checkpoint(
    engine: VllmEngine, policy: Policy, vllm_model: Path, tmp_path: Path
):
    """To the bit, for every kind of weight, and with prompts whose keys and values were cached before."""
    options = {"max_tokens": 16, "temperature": 1.0}
    before = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    old = engine.generate(requests(6), **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    assert engine.generate(requests(6), **options) == old  # not yet
    engine.rest()
    engine.wake()
    engine.sync()
    found = engine.generate(requests(6), **options)
    assert found != old
    sampled = torch.tensor([value for sample in found for value in sample.logprobs])
    assert torch.allclose(trainer_logprobs(policy, found, 1.0).float(), sampled, atol=1e-4)
    policy.save(tmp_path)
    fresh = start(load_tiny_policy(tmp_path, double=False), tmp_path)
    assert fresh.generate(requests(6), **options) == found
    fresh.run_ahead()  # nobody has the weights that one in its place would need
    kill(psutil.Process(fresh.process_ids[0]))
    with pytest.raises(EngineFailed, match="ended by signal 9"):
        fresh.generate(requests(6), **options)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            p.copy_(before[name])
    engine.sync()
    assert engine.generate(requests(6), **options) == old


def test_an_engine_that_is_stopped_is_ended_and_named(
    policy: Policy, vllm_model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trainer.rollout.vllm_replica.STOPPED_SECONDS", 0.5)
    stopped = start(policy, vllm_model)
    stopped.run_ahead()
    (pid,) = stopped.process_ids
    suspend(psutil.Process(pid))
    with pytest.raises(EngineFailed, match=r"was stopped \(SIGSTOP\) and was ended; its log is on stderr"):
        stopped.generate(requests(3), max_tokens=16, temperature=1.0)
    assert not psutil.pid_exists(pid)


def test_what_vllm_cannot_run_is_refused_with_its_reason(tiny_model: Path):
    """Heads of 8 are smaller than any that its attention has on the CPU."""
    with pytest.raises(InvalidSpec, match=r"vLLM cannot work with this model here: .*head") as caught:
        start(load_tiny_policy(tiny_model, double=False), tiny_model)
    assert caught.value.param == "rollout.engine"
