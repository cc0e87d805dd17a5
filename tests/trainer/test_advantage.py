"""Group-relative advantages against hand-computed values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.objective.advantage import group_advantage


def test_z_score_by_hand():
    # mean 0.25, sample deviation 0.5
    advantage = group_advantage(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert advantage.tolist() == pytest.approx([0.75 / 0.500001, *[-0.25 / 0.500001] * 3], rel=1e-12)


@given(st.floats(0, 1), st.integers(0, 12))
def test_equal_rewards_prefer_nothing(reward: float, count: int):
    assert not group_advantage(torch.full((count,), reward, dtype=torch.float64)).any()


def test_ungraded_responses_take_no_part():
    nan = math.nan
    advantage = group_advantage(torch.tensor([1.0, nan, 0.0, nan], dtype=torch.float64))
    assert advantage[[1, 3]].tolist() == [0.0, 0.0]
    assert torch.equal(advantage[[0, 2]], group_advantage(torch.tensor([1.0, 0.0], dtype=torch.float64)))


def test_baseline_over_part_of_the_group():
    rewards = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    advantage = group_advantage(rewards, baseline_G=torch.tensor([True, True, False]))
    assert advantage[2] == 0.0  # the mean of 1 and 0
    assert torch.equal(advantage[:2], group_advantage(rewards[:2]))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=16))
def test_advantages_sum_to_zero_and_keep_the_order(rewards: list[float]):
    values = torch.tensor(rewards, dtype=torch.float64)
    advantage = group_advantage(values)
    assert abs(float(advantage.sum())) < 1e-6
    if advantage.any():
        order = values.argsort()
        assert bool((advantage[order].diff() >= 0).all())
