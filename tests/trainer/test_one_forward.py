"""One forward pass gives everything: with one update a batch no separate pass for old log-probabilities.

The current log-probabilities, detached, are those of the policy that sampled. The same gradient, bit for bit,
must come of scoring twice: once without gradient for the old ones, and once for the loss.
"""

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy, make_group, positions_of
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.model.scoring import score_groups
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import PolicySplit
from trainer.spec.run import OptimizerSpec
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.steps.update import update
from trainer.types import Group

BEHAVIOR = [N, N, H, H]
REWARDS = [[1.0, 0.0, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [0.3, 0.3, 0.3, 0.3]]
Gradients = dict[str, torch.Tensor]


def groups_for(policy: Policy) -> list[Group]:
    return [make_group(policy, rewards, BEHAVIOR, index=i) for i, rewards in enumerate(REWARDS)]


def gradients_of(policy: Policy) -> Gradients:
    return {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


def with_a_separate_pass(policy: Policy, spec: PolicySplit, groups: list[Group], step: int) -> Gradients:
    algorithm = build_algorithm(spec)
    modes = algorithm.scored_modes(step)
    plans = [algorithm.plan(group) for group in groups]
    counts = batch_counts(plans, tuple(algorithm.mode_weights(step)))
    with torch.no_grad():
        old = [score_groups(policy, [group], modes)[0] for group in groups]
    policy.model.zero_grad()
    for plan, sampled in zip(plans, old, strict=True):
        old_logp_T = {mode: of_mode.logp_T for mode, of_mode in sampled.items()}
        (scores,) = score_groups(policy, [plan.group], modes)
        loss = group_loss(algorithm, plan, scores, Old(old_logp_T), counts, step, MetricSums())
        if plan.has_advantage:
            loss.backward()
    return gradients_of(policy)


def with_updates(policy: Policy, spec: PolicySplit, groups: list[Group], step: int, updates: int):
    """The gradient of each of ``updates`` optimizer steps; the weights stay as they are."""
    found: list[Gradients] = []

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            found.append(gradients_of(policy))
            policy.model.zero_grad()
            return 0.0

    policy.model.zero_grad()
    algorithm = build_algorithm(spec, 16)
    update(
        step_context(policy, algorithm, step=step),
        Recorder(policy.model, OptimizerSpec()),
        groups,
        first_update=step,
        updates=updates,
        tokens_per_micro_batch=positions_of(policy, groups, algorithm.scored_modes(step)),
    )
    return found


def assert_equal(one: Gradients, other: Gradients):
    assert one.keys() == other.keys() and any(bool(g.any()) for g in one.values())
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(
    "spec",
    [
        PolicySplit(eta=0.3),
        PolicySplit(eta=0.3, sharing="none"),
        PolicySplit(eta=0.3, eta_normal=-0.3, cross_importance="truncated"),
        PolicySplit(eta=0.3, freeze_step=0, aggregation="sequence_mean"),
    ],
    ids=["default", "no_share", "mirrored_truncated", "frozen"],
)
def test_one_update_equals_a_separate_pass_exactly(tiny_model, spec: PolicySplit, double: bool):
    policy = load_tiny_policy(tiny_model, double=double)
    groups = groups_for(policy)
    (found,) = with_updates(policy, spec, groups, step=0, updates=1)
    assert_equal(found, with_a_separate_pass(policy, spec, groups, step=0))


def test_the_first_of_several_updates_is_the_only_one(tiny_model):
    """And while the weights stay, the kept old log-probabilities make the second the same again."""
    policy = load_tiny_policy(tiny_model)
    groups = groups_for(policy)
    (only,) = with_updates(policy, PolicySplit(eta=0.3), groups, step=0, updates=1)
    first, second = with_updates(policy, PolicySplit(eta=0.3), groups, step=0, updates=2)
    assert_equal(only, first)
    assert_equal(only, second)
