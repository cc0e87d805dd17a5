"""Whatever the shapes, masks, lengths and rewards: every algorithm's loss and gradient are finite."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.fixtures.groups import H, N
from trainer.algorithms import ALGORITHMS, build_algorithm
from trainer.algorithms.base import BatchItem
from trainer.model.scoring import Scores
from trainer.objective.metrics import MetricSums
from trainer.spec.algorithm import AlgorithmSpec
from trainer.spec.modes import Mode
from trainer.steps.group_loss import Old, batch_counts, group_loss
from trainer.types import Group, Rollout

MAX_LENGTH = 6
ADAPTER: TypeAdapter[Any] = TypeAdapter(AlgorithmSpec)
REFERENCE = {"reference_kl": {"coefficient": 0.1, "estimator": "k3"}, "rollout_importance_cap": 2.0}

rewards = st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1))
lengths = st.integers(0, MAX_LENGTH)
rollouts = st.tuples(rewards, lengths, st.sampled_from([N, H]))
batches = st.lists(st.lists(rollouts, min_size=1, max_size=5), min_size=1, max_size=3)
flat = st.tuples(st.floats(0, 1), lengths, st.sampled_from([N, H])).flatmap(
    lambda one: st.lists(st.just(one), min_size=2, max_size=4)
)
one_token = st.lists(st.tuples(rewards, st.just(1), st.sampled_from([N, H])), min_size=2, max_size=4)


def groups_of(batch, one_mode: bool) -> list[Group]:
    groups = []
    for index, members in enumerate(batch):
        group = Group(index, index, {}, [], {})
        for reward, length, mode in members:
            behavior = N if one_mode else mode
            group.rollouts.append(
                Rollout(behavior, [5] * length, [-1.0] * length, length == 0, reward=reward)
            )
        groups.append(group)
    return groups


def check_finite(name: str, options: dict[str, Any], batch, seed: int) -> None:
    """Two updates of one batch: at ratio 1, and with log-probabilities from far away."""
    algorithm = build_algorithm(ADAPTER.validate_python({"type": name, **options}), MAX_LENGTH)
    groups = groups_of(batch, one_mode=name != "policy_split")
    plans = [algorithm.plan(group) for group in groups]
    modes = algorithm.scored_modes(0)
    counts = batch_counts(plans, tuple(algorithm.mode_weights(0)))
    generator = torch.Generator().manual_seed(seed)

    def drawn(plan, scale: float) -> dict[Mode, torch.Tensor]:
        count = int(plan.group.lengths_G.sum())
        return {mode: -scale * torch.rand(count, generator=generator) for mode in modes}

    old = [drawn(plan, 5.0) for plan in plans]
    for current in (old, [drawn(plan, 300.0) for plan in plans]):
        entropy = [{mode: -value for mode, value in drawn(plan, 3.0).items()} for plan in plans]
        if algorithm.needs_batch_pass:
            items = [BatchItem(*item) for item in zip(plans, current, entropy, strict=True)]
            algorithm.observe_batch(items, generator, MetricSums())
        metrics = MetricSums()
        for plan, logp, entropy_T, old_T in zip(plans, current, entropy, old, strict=True):
            variables = {mode: value.clone().requires_grad_() for mode, value in logp.items()}
            with_gradient = {mode: value.clone().requires_grad_() for mode, value in entropy_T.items()}
            scores = {
                mode: Scores(variables[mode], with_gradient[mode], torch.zeros(len(variables[mode]), 1))
                for mode in modes
            }
            reference = old_T if options else None
            loss = group_loss(algorithm, plan, scores, Old(old_T), counts, 0, metrics, reference)
            assert bool(loss.isfinite())
            if loss.requires_grad:
                loss.backward()
                for value in [*variables.values(), *with_gradient.values()]:
                    assert value.grad is None or bool(value.grad.isfinite().all())
        assert all(torch.isfinite(torch.tensor(value)) for value in metrics.result().values())


@pytest.mark.parametrize("options", [{}, REFERENCE], ids=["plain", "reference"])
@pytest.mark.parametrize("name", ALGORITHMS)
@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    batch=st.one_of(
        batches, st.lists(flat, min_size=1, max_size=2), st.lists(one_token, min_size=1, max_size=2)
    ),
    seed=st.integers(0, 1000),
)
def test_losses_and_gradients_are_finite(name: str, options: dict[str, Any], batch, seed: int):
    check_finite(name, options, batch, seed)
