"""The method reduces to what it should (R1 to R3, R6 to R9), on the training path itself."""

import dataclasses

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy, make_group, positions_of
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.algorithms.base import AdvantageInputs
from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.group_loss import batch_counts
from trainer.steps.update import update
from trainer.types import Group

REWARDS = [1.0, 0.0, 0.0, 1.0, 0.5, 0.0]
MIXED = [N, N, N, H, H, H]


def groups_for(policy: Policy, behavior: list[Mode], count: int = 3) -> list[Group]:
    rewards = [REWARDS[i:] + REWARDS[:i] for i in range(count)]
    return [make_group(policy, rewards[i], behavior, index=i) for i in range(count)]


def gradients(policy: Policy, spec: Grpo | PolicySplit, groups: list[Group], step: int = 0, micro: int = 1):
    """Loss and gradients of one batch, as ``trainer.steps.update`` computes them, and the metrics."""
    kept: dict[str, torch.Tensor] = {}

    class Recorder(MasterAdamW):
        def step(self, step: int) -> float:
            kept.update({n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None})
            return 0.0

    policy.model.zero_grad()
    result = run_update(policy, Recorder(policy.model, OptimizerSpec()), spec, groups, step, micro)
    zeros = {n: torch.zeros_like(p) for n, p in policy.model.named_parameters()}
    return result.loss, zeros | kept, result.metrics.result()


def run_update(policy, optimizer, spec, groups, step=0, micro=1, updates=1):
    algorithm = build_algorithm(spec, 16)
    return update(
        step_context(policy, algorithm, step=step),
        optimizer,
        groups,
        first_update=step,
        updates=updates,
        tokens_per_micro_batch=micro * positions_of(policy, groups, algorithm.scored_modes(step)),
    )


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], exactly: bool = False):
    assert one.keys() == other.keys()
    for name in one:
        if exactly:
            assert torch.equal(one[name], other[name]), name
        else:
            assert torch.allclose(one[name], other[name], rtol=1e-6, atol=1e-9), name


ONE_MODE = PolicySplit(
    weight_normal=1.0, eta=0.0, sharing="none", high_entropy_samples=0, aggregation="sequence_mean"
)


@pytest.mark.parametrize("double", [True, False])
def test_r1_one_mode_without_bonus_and_sharing_is_grpo_bit_for_bit(tiny_model, double):
    """Loss, gradients, and the weights after three AdamW steps."""
    weights = []
    for spec in (Grpo(), ONE_MODE):
        policy = load_tiny_policy(tiny_model, double=double)
        groups = groups_for(policy, [N] * 6)
        loss, gradient, _ = gradients(policy, spec, groups)
        policy.model.zero_grad()
        optimizer = MasterAdamW(policy.model, OptimizerSpec(learning_rate=1e-3))
        norms = [run_update(policy, optimizer, spec, groups, step=step).grad_norm for step in range(3)]
        assert norms[0] > 0
        weights.append((loss, gradient, norms, dict(policy.model.named_parameters())))
    (loss, gradient, norms, after), (other_loss, other_gradient, other_norms, other_after) = weights
    assert loss == other_loss
    assert norms == other_norms
    assert_same(gradient, other_gradient, exactly=True)
    assert_same(after, other_after, exactly=True)
    fresh = load_tiny_policy(tiny_model, double=double)
    moved = [not torch.equal(p, after[n]) for n, p in fresh.model.named_parameters()]
    assert all(moved)


def test_r2_an_empty_prompt_trains_every_row_twice(tiny_model):
    """s empty, eta = 0, sharing: GRPO's gradients, since both modes' rows are the same rows."""
    policy = load_tiny_policy(tiny_model)
    policy.high_entropy_prompt = ""
    mixed = groups_for(policy, MIXED)
    plain = [
        dataclasses.replace(g, rollouts=[dataclasses.replace(r, behavior_mode=N) for r in g.rollouts])
        for g in mixed
    ]
    split = PolicySplit(eta=0.0, aggregation="token_mean_per_mode")
    _, expected, _ = gradients(policy, Grpo(aggregation="token_mean"), plain)
    _, found, _ = gradients(policy, split, mixed)
    assert_same(found, expected)


def test_r3_without_a_bonus_both_modes_have_the_same_advantage(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = groups_for(policy, MIXED, count=1)[0]
    logp = {mode: torch.randn(int(group.lengths_G.sum()), dtype=torch.float64) for mode in Mode}
    with_bonus = {}
    for eta in (0.0, 0.5):
        algorithm = build_algorithm(PolicySplit(eta=eta))
        plan = algorithm.plan(group)
        inputs = {m: AdvantageInputs(plan, m, logp, logp[m], step=0) for m in Mode}
        shaped = {m: algorithm.shape_advantage(inputs[m], MetricSums()) for m in Mode}
        with_bonus[eta] = shaped
    assert torch.equal(with_bonus[0.0][N], with_bonus[0.0][H])
    assert torch.equal(with_bonus[0.5][N], with_bonus[0.0][N])
    assert not torch.equal(with_bonus[0.5][H], with_bonus[0.0][H])


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_r6_a_group_of_equal_rewards_has_exactly_no_gradient(tiny_model, reward: float):
    """The regulariser included, however large eta."""
    policy = load_tiny_policy(tiny_model)
    flat = [make_group(policy, [reward] * 6, MIXED)]
    loss, found, _ = gradients(policy, PolicySplit(eta=10.0), flat)
    assert loss == 0.0
    assert not any(bool(g.any()) for g in found.values())


def test_r6_such_a_group_beside_others_adds_exactly_nothing(tiny_model):
    policy = load_tiny_policy(tiny_model)
    spec = PolicySplit(eta=0.5, aggregation="sequence_sum")
    trained = make_group(policy, REWARDS, MIXED)
    flat = make_group(policy, [1.0] * 6, MIXED, index=1)
    _, alone, _ = gradients(policy, spec, [trained])
    _, beside, _ = gradients(policy, spec, [trained, flat])
    # Its rows count in the mean; they add nothing to the sum.
    assert_same({n: 2 * g for n, g in beside.items()}, alone)


def test_r7_without_sharing_the_normal_loss_ignores_high_entropy_responses(tiny_model):
    policy = load_tiny_policy(tiny_model)
    spec = PolicySplit(eta=0.3, sharing="none", weight_high_entropy=0.0)
    groups = groups_for(policy, MIXED)
    _, before, _ = gradients(policy, spec, groups)
    for group in groups:
        for rollout in group.rollouts:
            if rollout.behavior_mode is H:
                rollout.reward, rollout.response_ids = 1.0 - (rollout.reward or 0.0), [7, 7, 7]
                rollout.logprobs = [0.0] * 3
    _, after, _ = gradients(policy, spec, groups)
    assert_same(before, after)
    _, shared, _ = gradients(policy, spec.model_copy(update={"sharing": "both"}), groups)
    assert any(not torch.allclose(shared[n], after[n]) for n in shared)


def test_r8_order_of_groups_and_rows_does_not_matter(tiny_model):
    policy = load_tiny_policy(tiny_model)
    groups = groups_for(policy, MIXED)
    _, expected, _ = gradients(policy, PolicySplit(eta=0.3), groups)
    shuffled = [
        dataclasses.replace(g, rollouts=[g.rollouts[i] for i in (3, 0, 5, 1, 4, 2)]) for g in reversed(groups)
    ]
    _, found, _ = gradients(policy, PolicySplit(eta=0.3), shuffled)
    assert_same(found, expected)


def test_r8_without_a_bonus_the_modes_are_symmetric(tiny_model):
    """Swapping prompts and producers together leaves the loss as it is."""
    policy = load_tiny_policy(tiny_model)
    groups = groups_for(policy, MIXED)
    swapped = [
        dataclasses.replace(
            g,
            prompt_ids={mode: g.prompt_ids[mode.other] for mode in Mode},
            rollouts=[dataclasses.replace(r, behavior_mode=r.behavior_mode.other) for r in g.rollouts],
        )
        for g in groups
    ]
    _, expected, _ = gradients(policy, PolicySplit(eta=0.0), groups)
    _, found, _ = gradients(policy, PolicySplit(eta=0.0), swapped)
    assert_same(found, expected)


def test_r9_weight_zero_leaves_exactly_the_normal_rows(tiny_model):
    policy = load_tiny_policy(tiny_model)
    groups = groups_for(policy, MIXED)
    _, weightless, _ = gradients(policy, PolicySplit(eta=0.5, weight_high_entropy=0.0), groups)
    _, frozen, metrics = gradients(policy, PolicySplit(eta=0.5, freeze_step=3), groups, step=3)
    _, trained, _ = gradients(policy, PolicySplit(eta=0.5, freeze_step=3), groups, step=2)
    assert_same(weightless, frozen, exactly=True)
    assert "train/H/advantage_abs" not in metrics
    assert any(not torch.allclose(trained[n], frozen[n]) for n in trained)


@pytest.mark.parametrize(
    "aggregation", ["token_mean_per_mode", "token_mean", "sequence_mean", "sequence_sum"]
)
def test_r12_micro_batches_add_up(tiny_model, aggregation):
    policy = load_tiny_policy(tiny_model)
    spec = PolicySplit(eta=0.3, aggregation=aggregation)
    groups = groups_for(policy, MIXED)
    loss, expected, _ = gradients(policy, spec, groups, micro=1)
    for micro in (2, 3):
        other_loss, found, _ = gradients(policy, spec, groups, micro=micro)
        assert other_loss == pytest.approx(loss, abs=1e-9)
        assert_same(found, expected)


def test_several_updates_keep_the_old_policy(tiny_model):
    """The second update's ratio is taken against the policy that sampled: there the clip is active."""
    spec = PolicySplit(eta=0.0, clip_low=1e-9, clip_high=1e-9)
    settings = OptimizerSpec(learning_rate=1e-2, weight_decay=0.0, beta1=0.0)
    weights = []
    for updates in (1, 2):
        policy = load_tiny_policy(tiny_model)
        groups = groups_for(policy, MIXED)
        before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
        run_update(policy, MasterAdamW(policy.model, settings), spec, groups, updates=updates)
        weights.append({n: p.detach() - before[n] for n, p in policy.model.named_parameters()})
        if updates == 2:
            _, _, metrics = gradients(policy, spec, groups)
            assert metrics["train/N/clipfrac_low"] == 0.0  # against itself nothing is clipped
    once, twice = weights
    assert any(bool(once[n].any()) for n in once)
    assert any(not torch.allclose(once[n], twice[n]) for n in once)


def test_counts_are_those_of_the_rows_that_train(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1.0, 0.0, None, 0.0], [N, N, H, H], lengths=[1, 2, 4, 8])
    counts = batch_counts([build_algorithm(PolicySplit()).plan(group)], tuple(Mode))
    assert {mode: (c.tokens, c.rows) for mode, c in counts.items()} == {N: (11, 3), H: (11, 3)}
    one_way = build_algorithm(PolicySplit(sharing="h_to_n")).plan(group)
    assert {m: (one_way.counts(m).tokens, one_way.counts(m).rows) for m in Mode} == {N: (11, 3), H: (8, 1)}


def test_negative_cross_rows_can_be_dropped(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1.0, 0.0, 1.0, 0.0], [N, N, H, H])
    plan = build_algorithm(PolicySplit(cross_negative="drop")).plan(group)
    assert plan.trains_G[N].tolist() == [True, True, True, False]
    assert plan.trains_G[H].tolist() == [True, False, True, True]


def test_cross_importance_weighs_cross_rows_alone(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1.0, 0.0], [N, H], lengths=[2, 2])
    algorithm = build_algorithm(PolicySplit(cross_importance="truncated"))
    logp = {N: torch.tensor([-1.0, -1.0, -3.0, -0.1]), H: torch.tensor([-2.0, -0.2, -1.0, -1.0])}
    omega_n = algorithm.importance(algorithm.plan(group), N, logp)
    omega_h = algorithm.importance(algorithm.plan(group), H, logp)
    assert omega_n is not None and omega_h is not None
    assert omega_n.tolist() == pytest.approx([1.0, 1.0, torch.e**-2.0, 2.0])
    assert omega_h.tolist() == pytest.approx([torch.e**-1.0, 2.0, 1.0, 1.0])
