"""The built-in rollout engine against ``generate`` and against its own statistics."""

import pytest
import torch

from tests.fixtures.groups import load_tiny_policy
from trainer.model.scoring import score_groups
from trainer.rollout.engine import SampleRequest
from trainer.rollout.transformers_engine import BLOCK, TransformersEngine, _draw
from trainer.spec.modes import Mode
from trainer.types import Group, Rollout

PROMPTS = [(256, 84, 82), (256, 1, 2, 3, 4, 5, 6, 7, 8, 9), (256, 60)]


def test_almost_zero_temperature_gives_the_greedy_tokens_of_generate(tiny_model):
    """Prompts of three lengths in one batch."""
    policy = load_tiny_policy(tiny_model)
    engine = TransformersEngine(policy)
    requests = [SampleRequest(prompt, seed=i) for i, prompt in enumerate(PROMPTS)]
    samples = engine.generate(requests, max_tokens=12, temperature=1e-6)
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        expected = policy.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=12,
        )
        assert sample.response_ids == expected[0, len(prompt) :].tolist()


def test_a_response_does_not_depend_on_its_batch(tiny_model):
    policy = load_tiny_policy(tiny_model)
    requests = [SampleRequest(PROMPTS[i % 3], seed=i) for i in range(7)]
    together = TransformersEngine(policy).generate(requests, max_tokens=10, temperature=1.0)
    alone = TransformersEngine(policy, max_batch=1).generate(requests, max_tokens=10, temperature=1.0)
    assert [s.response_ids for s in together] == [s.response_ids for s in alone]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_logprobs_are_those_that_the_trainer_computes(tiny_model, temperature: float):
    """Rollout and trainer agree, at the temperature that was sampled with."""
    policy = load_tiny_policy(tiny_model)
    engine = TransformersEngine(policy)
    requests = [SampleRequest(PROMPTS[1], seed=i) for i in range(5)]
    samples = engine.generate(requests, max_tokens=10, temperature=temperature)
    rollouts = [Rollout(Mode.NORMAL, s.response_ids, s.logprobs, s.truncated) for s in samples]
    group = Group(0, 0, {}, [], {Mode.NORMAL: list(PROMPTS[1])}, rollouts)
    (scored,) = score_groups(policy, [group], (Mode.NORMAL,), temperature)
    sampled = torch.tensor([value for s in samples for value in s.logprobs])
    assert torch.allclose(scored[Mode.NORMAL].logp_T.float(), sampled, atol=1e-4)


def test_responses_end_with_the_stop_token_or_are_cut_off(tiny_model):
    policy = load_tiny_policy(tiny_model)
    requests = [SampleRequest(PROMPTS[0], seed=i) for i in range(200)]
    samples = TransformersEngine(policy).generate(requests, max_tokens=40, temperature=1.0)
    assert {s.truncated for s in samples} == {True, False}
    for sample in samples:
        stops = [token in policy.stop_ids for token in sample.response_ids]
        assert not any(stops[:-1])
        assert stops[-1] != sample.truncated
        assert sample.truncated == (len(sample.response_ids) == 40 and not stops[-1])


def test_draws_follow_the_distribution():
    """Frequencies of 20,000 draws within four standard errors, impossible tokens never drawn."""
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0])
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    tokens, logp = _draw(logits.expand(20_000, 4), uniform, temperature=1.0)
    p = logits.softmax(-1)
    found = torch.bincount(tokens, minlength=4) / 20_000
    assert found[2] == 0
    assert bool(((found - p).abs() <= 4 * (p * (1 - p) / 20_000).sqrt() + 1e-9).all())
    assert torch.allclose(logp, p.log()[tokens])


def test_a_draw_is_where_the_sum_of_probabilities_passes_its_number():
    """Of more tokens than one block has; the reference is the running sum over all of them in float64."""
    rows, vocabulary = 2_000, 3 * BLOCK + 17
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, vocabulary, generator=generator)
    logits[:, BLOCK // 2 : 2 * BLOCK + 5] = -torch.inf
    uniform = torch.rand(rows, generator=generator)
    token, logp = _draw(logits, uniform, 0.7)
    log_p = torch.log_softmax(logits.double() / 0.7, dim=-1)
    above = log_p.exp().cumsum(-1).gather(-1, token[:, None]).squeeze(-1)
    own = log_p.gather(-1, token[:, None]).squeeze(-1)
    assert bool((own > -torch.inf).all())
    assert bool(((above - own.exp() - 1e-6 <= uniform) & (uniform <= above + 1e-6)).all())
    assert torch.allclose(logp.double(), own, atol=1e-5)


def test_draws_of_a_small_vocabulary_have_the_bits_of_one_running_sum():
    """Those of the runs that our study has published."""
    generator = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(2_000, BLOCK, generator=generator), torch.rand(2_000, generator=generator)
    token, logp = _draw(logits, uniform, 1.0)
    log_p = torch.log_softmax(logits, dim=-1)
    sums = log_p.exp().cumsum(-1)
    expected = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
    assert torch.equal(token[:, None], expected)
    assert torch.equal(logp[:, None], log_p.gather(-1, expected))


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-24])
@pytest.mark.parametrize("beside", [1, 2 * BLOCK])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform: float, beside: int):
    impossible = torch.full((beside,), -torch.inf)
    logits = torch.cat([impossible, torch.zeros(2), impossible])[None]
    token, _ = _draw(logits, torch.tensor([uniform]), 1.0)
    assert token.item() - beside in (0, 1)
