"""A micro-batch has the positions that it is meant to have, whatever the layout of its rows."""

import pytest

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.model.optim import MasterAdamW
from trainer.model.packing import Layout
from trainer.spec.algorithm import AlgorithmSpec, Grpo, PolicySplit
from trainer.spec.modes import Mode
from trainer.spec.run import OptimizerSpec
from trainer.steps.parts import MICRO_BATCH_TOKENS
from trainer.steps.update import update

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


@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
@pytest.mark.parametrize("spec", [Grpo(), PolicySplit()], ids=["one_pass", "two_passes"])
def test_a_prompt_whose_responses_exceed_the_bound_is_divided(
    tiny_model, layout: Layout, spec: AlgorithmSpec
):
    """By responses: the bound holds, but for a response that is longer, which is a pass of its own."""
    policy = load_tiny_policy(tiny_model, double=False)
    policy.layout = layout
    groups = [
        make_group(
            policy, [1.0, 0.0] * (len(lengths) // 2), [N, H] * (len(lengths) // 2), index=i, lengths=lengths
        )
        for i, lengths in enumerate([[3] * 4, [200] * 7 + [0], [3] * 4, [2, 1000]])
    ]
    sizes: list[int] = []
    policy.decoder.register_forward_pre_hook(
        lambda _module, _positional, named: sizes.append(named["input_ids"].numel()), with_kwargs=True
    )
    context = step_context(policy, build_algorithm(spec))
    prompts = {mode: len(groups[3].prompt_ids[mode]) for mode in Mode}
    bound = 2 * (prompts[H] + 200)
    update(
        context,
        MasterAdamW(policy.model, OptimizerSpec()),
        groups,
        first_update=0,
        tokens_per_micro_batch=bound,
    )
    rows = {mode: length + 1000 for mode, length in prompts.items()}
    to_score = 2 * max(rows.values()) if layout == "per_row" else sum(rows.values())
    to_train = [rows[mode] for mode in Mode if rows[mode] > bound]
    longer = {"grpo": [rows[N]] * (rows[N] > bound), "policy_split": [to_score, *to_train]}
    assert [size for size in sizes if size > bound] == longer[spec.type]
