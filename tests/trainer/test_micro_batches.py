"""A micro-batch has the positions that it is meant to have, whatever the layout of its rows."""

import pytest

from tests.fixtures.groups import N, load_tiny_policy, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.packing import Layout, pack, packed_positions
from trainer.spec.algorithm import Grpo
from trainer.spec.run import OptimizerSpec
from trainer.steps.update import MICRO_BATCH_TOKENS, update

LENGTHS = [[150, *[3] * 7], [3] * 8, [90, 90, *[3] * 6], [0] * 8, [140, *[3] * 7]]


@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
def test_no_forward_pass_is_larger_than_the_bound(tiny_model, layout: Layout):
    """Where each response has a padded row of its own, as where a group shares one."""
    policy = load_tiny_policy(tiny_model, double=False)
    policy.layout = layout
    rewards = [1.0, 0.0] * 4
    groups = [
        make_group(policy, rewards, [N] * 8, index=index, lengths=lengths)
        for index, lengths in enumerate(LENGTHS * 8)
    ]
    sizes: list[int] = []
    policy.decoder.register_forward_pre_hook(
        lambda _module, _positional, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    context = step_context(policy, build_algorithm(Grpo()))
    update(context, MasterAdamW(policy.model, OptimizerSpec()), groups, first_update=0)
    assert 1 < len(sizes) < len(groups)
    assert max(sizes) <= MICRO_BATCH_TOKENS


def test_a_prompt_whose_responses_exceed_the_bound_is_a_pass_of_its_own(tiny_model):
    """It is not divided: its advantages and bonus are formed from all of its responses."""
    policy = load_tiny_policy(tiny_model, double=False)
    policy.layout = "per_row"
    groups = [
        make_group(policy, [1.0, 0.0] * 4, [N] * 8, index=index, lengths=lengths)
        for index, lengths in enumerate([[3] * 8, [600] * 8, [3] * 8])
    ]
    sizes: list[int] = []
    policy.decoder.register_forward_pre_hook(
        lambda _module, _positional, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    context = step_context(policy, build_algorithm(Grpo()))
    update(context, MasterAdamW(policy.model, OptimizerSpec()), groups, first_update=0)
    own = packed_positions([len(groups[1].prompt_ids[N])], [groups[1].lengths_G.tolist()], "per_row")
    assert own > MICRO_BATCH_TOKENS
    assert sizes.count(own) == 1 and max(sizes) == own


@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
def test_positions_are_counted_as_they_are_packed(layout: Layout):
    prompts = [[1] * 5, [2] * 3]
    responses = [[[7] * 4, [8]], [[], [9] * 9]]
    packed = pack(prompts, responses, 0, layout)
    lengths = [[len(one) for one in group] for group in responses]
    assert packed_positions([5, 3], lengths, layout) == packed.input_ids_BL.numel()
