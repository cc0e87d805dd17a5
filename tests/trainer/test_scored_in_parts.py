"""What is measured without training goes through micro-batches too, and comes to the same.

Probes of gradients and hidden states, token metrics of an evaluation, and the trial rollout: within a bound
of positions that a group exceeds, against the same at once, in float64; and no forward pass is larger.
"""

from pathlib import Path

import pytest
import torch

from tests.fixtures.groups import H, N, computed, load_tiny_policy, make_group
from tests.fixtures.runs import tiny_spec, write_rows
from tests.fixtures.steps import step_context
from trainer.algorithms import build_algorithm
from trainer.data.items import load_items
from trainer.diagnostics.gradients import gradient_metrics
from trainer.diagnostics.hidden_states import hidden_state_metrics
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.trial import try_rollout
from trainer.model.packing import Layout
from trainer.model.policy import Policy
from trainer.model.rows import LARGEST_MICRO_BATCH_TOKENS
from trainer.model.scoring import divided, prompts_of
from trainer.spec.algorithm import PolicySplit
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.modes import Mode
from trainer.types import Group

LENGTHS = [120, 9, 0, 51, 15, 180]
BEHAVIOR = [N, H, N, H, H, N]


@pytest.fixture(scope="module")
def policy(tiny_model: Path) -> Policy:
    return load_tiny_policy(tiny_model)


def a_group(policy: Policy, index: int = 0) -> Group:
    return make_group(policy, [1.0, 0.0, 0.5, 0.0, 1.0, 0.0], BEHAVIOR, index=index, lengths=LENGTHS)


def bound(policy: Policy, prompts: int) -> int:
    """As many positions as the longest response has behind so many prompts."""
    return prompts * (max(LENGTHS) + max(len(ids) for ids in a_group(policy).prompt_ids.values()))


@pytest.mark.parametrize("layout", ["shared_prefix", "per_row"])
def test_groups_are_divided_only_where_they_do_not_fit(policy: Policy, layout: Layout):
    groups = [a_group(policy, index) for index in range(2)]
    even = [make_group(policy, [1.0] * 6, BEHAVIOR, index=index, lengths=[60] * 6) for index in range(2)]
    prompted, fitting = ([(g, prompts_of(g, tuple(Mode))) for g in some] for some in (groups, even))
    (whole,) = divided(fitting, layout)
    assert [id(group) for group in whole] == [id(group) for group in even]
    parts = divided(prompted, layout, bound(policy, 2))
    assert len(parts) > 2
    told = [(part.index, id(r)) for micro in parts for part in micro for r in part.rollouts]
    expected = [(group.index, id(r)) for group in groups for r in group.rollouts if r.response_ids]
    assert told == expected if layout == "shared_prefix" else sorted(told) == sorted(expected)
    # Within a part in the group's order.
    places = {id(r): number for group in groups for number, r in enumerate(group.rollouts)}
    of_parts = [[places[id(r)] for r in part.rollouts] for micro in parts for part in micro]
    assert all(some == sorted(some) for some in of_parts)


@pytest.mark.parametrize("sharing", ["both", "none"])
def test_gradients_of_parts_are_those_of_whole_groups(policy: Policy, sharing):
    """The null's split too. Parts are scored once more before: the bonus is of the whole group."""
    algorithm = build_algorithm(PolicySplit(eta=0.5, sharing=sharing))
    groups = [a_group(policy, index) for index in range(2)]
    found = []
    for positions in (None, bound(policy, 1), 1):
        draw = torch.Generator().manual_seed(3)
        with computed(policy) as sizes:
            found.append(
                gradient_metrics(
                    policy,
                    algorithm,
                    groups,
                    step=0,
                    temperature=1.0,
                    generator=draw,
                    positions=positions,
                )
            )
        assert max(sizes) <= max(positions or LARGEST_MICRO_BATCH_TOKENS, bound(policy, 1))
    whole, *parts = found
    assert "diag/grad_cos_bonus" in whole
    for part in parts:
        assert part == pytest.approx(whole, rel=1e-6, abs=1e-9)


def test_hidden_states_of_parts_are_those_of_whole_groups(policy: Policy):
    groups = [a_group(policy, index) for index in range(2)]
    whole = hidden_state_metrics(policy, groups)
    for positions in (bound(policy, 3), 1):
        with computed(policy) as sizes:
            assert hidden_state_metrics(policy, groups, positions) == pytest.approx(whole, rel=1e-9)
        assert max(sizes) <= bound(policy, 3) and len(sizes) > len(groups)


def test_an_evaluation_and_the_trial_score_in_parts(tiny_model: Path, tmp_path: Path):
    policy = load_tiny_policy(tiny_model)
    data = write_rows(tmp_path / "data.jsonl")
    spec = tiny_spec(tiny_model, data, evaluation=EvaluationSpec(max_items=2, samples_per_item=4))
    items = load_items(spec.training_data)
    found, gaps = [], []
    for positions in (None, 1):
        context = step_context(policy, build_algorithm(PolicySplit()), positions=positions)
        values, _ = evaluate(context, items, tuple(Mode), spec.evaluation)
        found.append({name: value for name, value in values.items() if not name.startswith("time/")})
        gaps.append(try_rollout(context, items))
    assert "eval/kl_H_N/prefix_H" in found[0]
    assert found[1] == pytest.approx(found[0], rel=1e-6, abs=1e-9, nan_ok=True)
    assert gaps[0].tokens == gaps[1].tokens > 0
    assert gaps[1].largest < 1e-5
