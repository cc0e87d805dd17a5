"""What holds for every batch: plans and losses over drawn group shapes, lengths, rewards and options.

Scores are plain tensors, no model. Drawn are groups of 1 to 6 responses of 0 to 5 tokens, cut off or not,
graded or not, all alike or not, from either mode; and Policy Split's options.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

from tests.fixtures.groups import H, N, bare_group, plain_scores
from trainer.algorithms import ALGORITHMS, build_algorithm
from trainer.algorithms.base import Algorithm, BatchItem
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import AlgorithmSpec, PolicySplit
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group

MAX_LENGTH = 5
examples = settings(max_examples=80, deadline=None, derandomize=True)
fewer_examples = settings(examples, max_examples=15)
REWARD = st.one_of(st.none(), st.integers(0, 8).map(lambda n: n / 8))


@dataclass
class Batch:
    """Groups with log-probabilities and entropies of all their tokens under both modes, old and current."""

    groups: list[Group]
    old: list[dict[Mode, Tensor]]
    logp: list[dict[Mode, Tensor]]
    entropy: list[dict[Mode, Tensor]]

    def map(self, change) -> "Batch":
        """The batch with its groups changed; tokens stay in place."""
        return replace(self, groups=[change(group) for group in self.groups])


@st.composite
def drawn_groups(draw, index: int = 0, modes=tuple(Mode), reward=REWARD) -> Group:
    size = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(0, MAX_LENGTH), min_size=size, max_size=size))
    behavior = draw(st.lists(st.sampled_from(modes), min_size=size, max_size=size))
    same = draw(st.booleans())
    rewards = [draw(reward)] * size if same else draw(st.lists(reward, min_size=size, max_size=size))
    truncated = [length == MAX_LENGTH or draw(st.booleans()) for length in lengths]
    return bare_group(
        [[7] * length for length in lengths], rewards, behavior, index=index, truncated=truncated
    )


@st.composite
def batches(draw, on_policy: bool = False, modes=tuple(Mode), reward=REWARD) -> Batch:
    groups = [draw(drawn_groups(i, modes, reward)) for i in range(draw(st.integers(1, 3)))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    spread = draw(st.sampled_from([0.0, 0.5, 4.0, 1000.0]))
    drift = 0.0 if on_policy else draw(st.sampled_from([0.0, 0.3, 30.0, 1000.0]))

    def tokens(group: Group, scale: float) -> dict[Mode, Tensor]:
        count = int(group.lengths_G.sum())
        return {m: scale * torch.rand(count, dtype=torch.float64, generator=generator) for m in Mode}

    old = [{m: -values for m, values in tokens(g, spread).items()} for g in groups]
    moved = [tokens(g, 2 * drift) for g in groups]
    logp = [{m: (o[m] + d[m] - drift).clamp(max=0.0) for m in Mode} for o, d in zip(old, moved, strict=True)]
    return Batch(groups, old, old if on_policy else logp, [tokens(g, 3.0) for g in groups])


@st.composite
def policy_splits(draw, **fixed) -> PolicySplit:
    options = {
        "sharing": draw(st.sampled_from(["both", "h_to_n", "n_to_h", "none", "none_pooled"])),
        "aggregation": draw(
            st.sampled_from(["token_mean_per_mode", "token_mean", "sequence_mean", "sequence_sum"])
        ),
        "clip_order": draw(st.sampled_from(["inside", "outside"])),
        "cross_importance": draw(st.sampled_from(["none", "truncated"])),
        "cross_negative": draw(st.sampled_from(["keep", "drop"])),
        "eta": draw(st.sampled_from([0.0, 0.03, 1.0])),
        "eta_normal": draw(st.sampled_from([0.0, 0.03, -1.0])),
        "alpha": draw(st.floats(0, 1)),
        "kappa": draw(st.sampled_from([1.01, 2.0, 1e6])),
        "weight_high_entropy": draw(st.sampled_from([0.0, 0.5, 2.0])),
    }
    return PolicySplit.model_validate(options | fixed)


def losses(algorithm: Algorithm, batch: Batch) -> tuple[float, list[dict[Mode, Tensor]]]:
    """The batch loss, and its gradient with respect to every log-probability, by the trainer's own path."""
    plans = [algorithm.plan(group) for group in batch.groups]
    if algorithm.needs_batch_pass:
        items = [
            BatchItem(plan, logp, entropy)
            for plan, logp, entropy in zip(plans, batch.logp, batch.entropy, strict=True)
        ]
        algorithm.observe_batch(items, torch.Generator().manual_seed(0), MetricSums())
    counts = batch_counts(plans, tuple(algorithm.mode_weights(0)))
    total, gradients = 0.0, []
    for plan, old, logp, entropy in zip(plans, batch.old, batch.logp, batch.entropy, strict=True):
        variables = {mode: values.clone().requires_grad_() for mode, values in logp.items()}
        scores = {mode: plain_scores(variables[mode], entropy[mode]) for mode in algorithm.scored_modes(0)}
        loss = group_loss(algorithm, plan, scores, Old(old), counts, 0, MetricSums())
        if loss.requires_grad:
            loss.backward()
        total += float(loss.detach())
        gradients.append({m: torch.zeros_like(v) if v.grad is None else v.grad for m, v in variables.items()})
    return total, gradients


def per_response(group: Group, values_T: Tensor) -> list[Tensor]:
    return list(values_T.split(group.lengths_G.tolist()))


def assert_close(one: list[dict[Mode, Tensor]], other: list[dict[Mode, Tensor]]):
    for a, b in zip(one, other, strict=True):
        for mode in Mode:
            assert torch.allclose(a[mode], b[mode], rtol=1e-9, atol=1e-12)


# --- Policy Split -------------------------------------------------------------------------------------------


@examples
@given(policy_splits(), batches())
def test_loss_and_gradients_are_finite(spec: PolicySplit, batch: Batch):
    """However far the policies are apart: ratios up to e^1000 before the clamp."""
    loss, gradients = losses(build_algorithm(spec), batch)
    assert torch.isfinite(torch.tensor(loss))
    assert all(bool(values.isfinite().all()) for by_mode in gradients for values in by_mode.values())


@examples
@given(policy_splits(), batches())
def test_only_rows_that_train_have_a_gradient(spec: PolicySplit, batch: Batch):
    """None where a response has no reward, its row is not shared, its advantage or its mode's weight is 0."""
    _, gradients = losses(build_algorithm(spec), batch)
    weight = {N: spec.weight_normal, H: spec.weight_high_entropy}
    crosses = {N: spec.sharing in ("both", "h_to_n"), H: spec.sharing in ("both", "n_to_h")}
    for group, by_mode in zip(batch.groups, gradients, strict=True):
        for mode in Mode:
            for rollout, values in zip(group.rollouts, per_response(group, by_mode[mode]), strict=True):
                pool = [
                    r.reward
                    for r in group.rollouts
                    if r.reward is not None and (spec.sharing != "none" or r.behavior_mode is mode)
                ]
                trains = rollout.behavior_mode is mode or crosses[mode]
                if rollout.reward is None or not trains or weight[mode] == 0 or len(set(pool)) < 2:
                    assert not values.any()


@examples
@given(policy_splits(cross_importance="none", cross_negative="keep"), batches(on_policy=True))
def test_on_policy_a_gradient_has_the_sign_of_the_advantage(spec: PolicySplit, batch: Batch):
    """kappa > 1: the bonus never turns a response that is worse than its group's mean into a better one."""
    _, gradients = losses(build_algorithm(spec), batch)
    for group, by_mode in zip(batch.groups, gradients, strict=True):
        for mode in Mode:
            pool = [
                r.reward
                for r in group.rollouts
                if r.reward is not None and (spec.sharing != "none" or r.behavior_mode is mode)
            ]
            for rollout, values in zip(group.rollouts, per_response(group, by_mode[mode]), strict=True):
                if rollout.reward is None or not values.any():
                    continue
                better = rollout.reward - sum(pool) / len(pool)
                if abs(better) > 1e-9:
                    assert bool((values * better < 0).all())


@examples
@given(policy_splits(), batches(), st.randoms(use_true_random=False))
def test_order_does_not_matter(spec: PolicySplit, batch: Batch, random):
    """Responses within groups and groups within the batch, shuffled: the same loss, gradients in place."""
    loss, gradients = losses(build_algorithm(spec), batch)
    orders = [random.sample(range(n), n) for n in (len(g.rollouts) for g in batch.groups)]

    def shuffled(values: list[dict[Mode, Tensor]]) -> list[dict[Mode, Tensor]]:
        return [
            {mode: torch.cat([per_response(group, by_mode[mode])[i] for i in order]) for mode in Mode}
            for group, by_mode, order in zip(batch.groups, values, orders, strict=True)
        ][::-1]

    groups = [
        replace(group, rollouts=[group.rollouts[i] for i in order])
        for group, order in zip(batch.groups, orders, strict=True)
    ][::-1]
    other = Batch(groups, shuffled(batch.old), shuffled(batch.logp), shuffled(batch.entropy))
    other_loss, found = losses(build_algorithm(spec), other)
    assert other_loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert_close(found, shuffled(gradients))


@examples
@given(policy_splits(), batches(reward=st.integers(0, 8).map(lambda n: n / 8)), st.integers(-8, 8))
def test_the_same_reward_added_to_all_changes_nothing(spec: PolicySplit, batch: Batch, eighths: int):
    def shifted(group: Group) -> Group:
        rollouts = [replace(r, reward=(r.reward or 0.0) + eighths / 8) for r in group.rollouts]
        return replace(group, rollouts=rollouts)

    loss, gradients = losses(build_algorithm(spec), batch)
    other_loss, found = losses(build_algorithm(spec), batch.map(shifted))
    assert other_loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert_close(found, gradients)


@examples
@given(policy_splits(eta_normal=0.0), batches(), st.floats(0, 10))
def test_the_bonus_of_one_mode_leaves_the_other_alone(spec: PolicySplit, batch: Batch, eta: float):
    _, gradients = losses(build_algorithm(spec), batch)
    _, other = losses(build_algorithm(spec.model_copy(update={"eta": eta})), batch)
    for a, b in zip(gradients, other, strict=True):
        assert torch.equal(a[N], b[N])


@examples
@given(policy_splits(eta=0.0, eta_normal=0.0), batches())
def test_ungraded_responses_might_as_well_not_exist(spec: PolicySplit, batch: Batch):
    """Without a bonus, whose z-score is over all tokens."""
    keep = [[r.reward is not None for r in g.rollouts] for g in batch.groups]
    assume(all(any(flags) for flags in keep))

    def kept(values: list[dict[Mode, Tensor]]) -> list[dict[Mode, Tensor]]:
        return [
            {
                mode: torch.cat([part for part, k in zip(per_response(g, v[mode]), flags, strict=True) if k])
                for mode in Mode
            }
            for g, v, flags in zip(batch.groups, values, keep, strict=True)
        ]

    groups = [
        replace(g, rollouts=[r for r, k in zip(g.rollouts, flags, strict=True) if k])
        for g, flags in zip(batch.groups, keep, strict=True)
    ]
    loss, gradients = losses(build_algorithm(spec), batch)
    other = Batch(groups, kept(batch.old), kept(batch.logp), kept(batch.entropy))
    other_loss, found = losses(build_algorithm(spec), other)
    assert other_loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert_close(found, kept(gradients))


@examples
@given(batches(on_policy=True), st.booleans())
def test_whether_responses_were_cut_off_is_not_the_losses_business(batch: Batch, cut: bool):
    def marked(group: Group) -> Group:
        return replace(group, rollouts=[replace(r, truncated=cut) for r in group.rollouts])

    loss, gradients = losses(build_algorithm(PolicySplit()), batch)
    other_loss, found = losses(build_algorithm(PolicySplit()), batch.map(marked))
    assert loss == other_loss
    assert all(torch.equal(a[m], b[m]) for a, b in zip(gradients, found, strict=True) for m in Mode)


@examples
@given(policy_splits(cross_importance="none"), batches(on_policy=True))
def test_a_modes_weights_sum_to_what_its_loss_is_worth(spec: PolicySplit, batch: Batch):
    """Every token's factor, gradient over advantage, adds up: to w_M for means over a mode's tokens."""
    spec = spec.model_copy(update={"aggregation": "token_mean_per_mode", "eta": 0.0, "eta_normal": 0.0})
    algorithm = build_algorithm(spec)
    _, gradients = losses(algorithm, batch)
    plans = [algorithm.plan(group) for group in batch.groups]
    for mode, weight in {N: spec.weight_normal, H: spec.weight_high_entropy}.items():
        total, complete = 0.0, True
        for plan, by_mode in zip(plans, gradients, strict=True):
            response_of_T = plan.group.response_of_T
            advantage_T = plan.advantage_G[mode][response_of_T]
            trains_T = plan.trains_G[mode][response_of_T]
            complete &= bool((advantage_T[trains_T] != 0).all())
            known = trains_T & (advantage_T != 0)
            total -= float((by_mode[mode][known] / advantage_T[known]).sum())
        rows = sum(int(plan.group.lengths_G[plan.trains_G[mode]].sum()) for plan in plans)
        assert total <= weight + 1e-9
        if complete and rows:
            assert total == pytest.approx(weight, rel=1e-9)


# --- every algorithm ----------------------------------------------------------------------------------------


def algorithm_of(name: str) -> Algorithm:
    spec = TypeAdapter(AlgorithmSpec).validate_python({"type": name})
    return build_algorithm(spec, MAX_LENGTH)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@fewer_examples
@given(batch=batches(modes=(N,)))
def test_every_algorithm_is_finite_and_leaves_ungraded_responses_out(name: str, batch: Batch):
    algorithm = algorithm_of(name)
    loss, gradients = losses(algorithm, batch)
    assert torch.isfinite(torch.tensor(loss))
    for group, by_mode in zip(batch.groups, gradients, strict=True):
        assert bool(by_mode[N].isfinite().all())
        for rollout, values in zip(group.rollouts, per_response(group, by_mode[N]), strict=True):
            assert rollout.reward is not None or not values.any()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@fewer_examples
@given(batch=batches(on_policy=True, modes=(N,)))
def test_no_algorithm_prefers_among_equal_rewards(name: str, batch: Batch):
    """Through log-probabilities on policy, that is: an entropy bonus has a gradient through the entropy, and
    KL-Cov holds drifted tokens back. DAPO's length penalty prefers the shorter one, so its plan is asked.
    """
    algorithm = algorithm_of(name)
    _, gradients = losses(algorithm, batch)
    for group, by_mode in zip(batch.groups, gradients, strict=True):
        if not algorithm.plan(group).has_advantage:
            assert not by_mode[N].any()
        rewards = {r.reward for r in group.rollouts if r.reward is not None}
        if len(rewards) < 2 and name != "dapo":
            assert not by_mode[N].any()
