"""What stays as it was when a batch was sampled, and what moves, over several updates of it."""

from typing import Any

import pytest
import torch

from tests.fixtures.groups import N, load_tiny_policy, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms.base import AdvantageInputs, BatchItem
from trainer.algorithms.clip_cov import ClipCovAlgorithm
from trainer.algorithms.edge_grpo import EdgeGrpoAlgorithm
from trainer.algorithms.entropy_advantage import EntropyAdvantageAlgorithm
from trainer.algorithms.kl_cov import KlCovAlgorithm
from trainer.model.optim import MasterAdamW
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import ClipCov, EdgeGrpo, EntropyAdvantage, KlCov
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import update


def updated(policy, algorithm, groups, updates: int) -> None:
    update(
        step_context(policy, algorithm),
        MasterAdamW(policy.model, OptimizerSpec(learning_rate=0.05)),
        groups,
        first_update=0,
        updates=updates,
    )


@pytest.mark.parametrize(
    ("kind", "spec"),
    [(EntropyAdvantageAlgorithm, EntropyAdvantage(kappa=1e-3)), (EdgeGrpoAlgorithm, EdgeGrpo())],
)
def test_an_advantage_made_of_entropies_is_that_of_the_policy_that_sampled(tiny_model, kind, spec):
    """In each of three updates it is what the first forward pass of all gives, though the policy moves."""
    policy = load_tiny_policy(tiny_model)
    groups = [
        make_group(policy, [1.0, 0.0], [N] * 2, lengths=[5, 3]),
        make_group(policy, [0.0, 0.5], [N] * 2, lengths=[2, 7], index=1),
    ]
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    class Recorded(kind):
        def shape_advantage(self, tokens: AdvantageInputs, metrics: MetricSums) -> torch.Tensor:
            shaped_T = super().shape_advantage(tokens, metrics)
            seen.append((tokens.plan.group.index, tokens.entropy_T, shaped_T))
            return shaped_T

    with torch.no_grad():
        scored = [scores[N].entropy_T.clone() for scores in score_groups(policy, groups, (N,))]
    updated(policy, Recorded(spec), groups, updates=3)
    with torch.no_grad():
        moved = [scores[N].entropy_T for scores in score_groups(policy, groups, (N,))]
    assert len(seen) == 6
    for index, entropy_T, shaped_T in seen:
        assert torch.equal(entropy_T, scored[index])
        assert torch.equal(shaped_T, seen[index][2])
        assert not torch.allclose(entropy_T, moved[index], rtol=1e-2)


def observed(algorithm: Any, plan, logp_T, old_logp_T) -> torch.Tensor:
    item = BatchItem(plan, {N: logp_T}, {N: torch.zeros_like(logp_T)}, {N: old_logp_T})
    algorithm.observe_batch([item], torch.Generator().manual_seed(0), MetricSums())
    return algorithm.chosen(plan)


def test_clip_cov_draws_none_of_the_tokens_that_the_clip_already_holds(tiny_model):
    """All of the band is drawn: tokens past the clip in their advantage's direction are not among them."""
    algorithm = ClipCovAlgorithm(ClipCov(share=1.0, band_low=-1e6, band_high=1e6))
    group = make_group(load_tiny_policy(tiny_model), [1.0, 0.0], [N] * 2, lengths=[4, 4])
    plan = algorithm.plan(group)
    old_T = torch.linspace(-2.0, -1.0, 8, dtype=torch.float64)
    ratio_T = torch.tensor([1.3, 1.1, 0.7, 1.0, 1.3, 1.1, 0.7, 1.0], dtype=torch.float64)
    chosen_T = observed(algorithm, plan, old_T + ratio_T.log(), old_T)
    # The first response's advantage is positive: held at 1.3. The second's is negative: held at 0.7.
    assert chosen_T.tolist() == [False, True, True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (ClipCovAlgorithm, ClipCov(share=1.0, band_low=0.2, band_high=9.0, clip_low=0.9, clip_high=1e6)),
        (KlCovAlgorithm, KlCov(share=0.25)),
    ],
)
def test_the_covariance_is_that_of_the_policy_that_sampled(tiny_model, kind, spec):
    group = make_group(load_tiny_policy(tiny_model), [1.0, 0.0], [N] * 2, lengths=[4, 4])
    old_T = torch.linspace(-2.0, -1.0, 8, dtype=torch.float64)
    moved_T = old_T.flip(0)
    found = []
    for logp_T in (old_T, moved_T):
        algorithm = kind(spec)
        found.append(observed(algorithm, algorithm.plan(group), logp_T, old_T))
    algorithm = kind(spec)
    of_the_moment = observed(algorithm, algorithm.plan(group), moved_T, moved_T)
    assert torch.equal(*found)
    assert not torch.equal(found[0], of_the_moment)
