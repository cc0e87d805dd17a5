"""Row layouts: exact token ids, and equal results whichever way they are packed (R10, R12)."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.groups import H, N, load_tiny_policy, make_group
from trainer.model.packing import pack
from trainer.model.scoring import score_groups
from trainer.model.trees import tree_mask
from trainer.spec.modes import Mode

BEHAVIOR = [N, H, N, H]


def rebuilt_rows(packed, prompts: Sequence[Sequence[int]], responses) -> list[list[int]]:
    """Each response as the model sees it: the tokens it can look at from its last position, in order."""
    seen = []
    for tree, prompt, group in zip(packed.trees, prompts, responses, strict=True):
        mask = tree_mask(tree)
        end = len(prompt)
        for response in group:
            end += len(response)
            visible = tree.start + mask[end - 1].nonzero().squeeze(-1)
            assert packed.position_ids_BL[0, visible].tolist() == list(range(len(visible)))
            seen.append(packed.input_ids_BL[0, visible].tolist())
    return seen


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
            st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_response_sees_its_prompt_and_itself_alone(rows):
    prompts, responses = [r[0] for r in rows], [r[1] for r in rows]
    packed = pack(prompts, responses, pad_id=99)
    expected = [p + r for p, group in zip(prompts, responses, strict=True) for r in group]
    assert rebuilt_rows(packed, prompts, responses) == expected
    predicted = packed.token_T.tolist()
    assert predicted == [token for group in responses for response in group for token in response]
    # The hidden state that predicts a token stands one position before it.
    positions = packed.position_ids_BL[packed.row_T, packed.position_T].tolist()
    expected_positions = [
        len(prompt) - 1 + offset
        for prompt, group in zip(prompts, responses, strict=True)
        for response in group
        for offset in range(len(response))
    ]
    assert positions == expected_positions


def test_shared_prefix_equals_plain_rows(tiny_model):
    """R12: log-probabilities, entropies and gradients (norms and positions are float32 inside the model)."""
    policy = load_tiny_policy(tiny_model)
    groups = [make_group(policy, [1, 0, 1, 0], BEHAVIOR, index=i) for i in range(2)]
    results = []
    for layout in ("shared_prefix", "per_row"):
        policy.model.zero_grad()
        scored = score_groups(policy, groups, tuple(Mode), layout=layout)
        values = [s.logp_T for by_mode in scored for s in by_mode.values()]
        values += [s.entropy_T for by_mode in scored for s in by_mode.values()]
        torch.cat(values).sum().backward()
        gradients = [p.grad.clone() for p in policy.model.parameters()]
        results.append([v.detach() for v in values] + gradients)
    for fast, slow in zip(*results, strict=True):
        assert torch.allclose(fast, slow, rtol=1e-5, atol=1e-7)


def test_plain_rows_equal_the_whole_model_on_each_row(tiny_model):
    """The slow reference itself against one unpadded forward pass a row."""
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1, 0, 1, 0], BEHAVIOR)
    (scored,) = score_groups(policy, [group], tuple(Mode), layout="per_row")
    for mode in Mode:
        expected = []
        for rollout in group.rollouts:
            ids = group.prompt_ids[mode] + rollout.response_ids
            log_p = policy.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            first = len(group.prompt_ids[mode])
            expected += [log_p[t - 1, ids[t]] for t in range(first, len(ids))]
        assert torch.allclose(scored[mode].logp_T, torch.stack(expected), rtol=1e-7, atol=1e-9)


def test_pad_ids_and_batch_neighbours_change_nothing(tiny_model):
    policy = load_tiny_policy(tiny_model)
    short = make_group(policy, [1, 0], [N, H], lengths=[1, 2])
    long = make_group(policy, [1, 0], [N, H], index=1, lengths=[30, 25])
    (alone,) = score_groups(policy, [short], tuple(Mode))
    beside, _ = score_groups(policy, [short, long], tuple(Mode))
    for mode in Mode:
        assert torch.allclose(alone[mode].logp_T, beside[mode].logp_T, rtol=1e-8, atol=1e-10)
    policy.tokenizer.pad_token = "a"
    (other_pad,) = score_groups(policy, [short], tuple(Mode))
    for mode in Mode:
        assert torch.equal(alone[mode].logp_T, other_pad[mode].logp_T)


def test_empty_responses_are_allowed_beside_others(tiny_model):
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [0, 1, 0], [N, H, N], lengths=[0, 3, 0])
    for layout in ("shared_prefix", "per_row"):
        (scored,) = score_groups(policy, [group], tuple(Mode), layout=layout)
        assert all(len(scores.logp_T) == 3 for scores in scored.values())


@pytest.mark.parametrize("mode", list(Mode))
def test_prompts_have_one_system_turn_at_most(tiny_model, mode):
    """R10: both modes' rows carry identical response ids behind the prompt of their mode."""
    policy = load_tiny_policy(tiny_model)
    group = make_group(policy, [1, 0], [N, H])
    text = policy.tokenizer.decode(group.prompt_ids[mode])
    assert text.count("<|im_start|>system") == (1 if mode is H else 0)
    assert (policy.high_entropy_prompt in text) == (mode is H)
    assert text.endswith("<|im_start|>assistant\n")
    assert all(r.response_ids[-1] in policy.stop_ids for r in group.rollouts)
