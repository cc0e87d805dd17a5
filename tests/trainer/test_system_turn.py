"""R10 where the data brings a system message of its own: one system turn a prompt, the same response ids."""

import pytest
import torch

from tests.fixtures.groups import H, N, load_tiny_policy
from trainer.data.items import Item
from trainer.model.packing import pack
from trainer.model.scoring import score_groups
from trainer.spec.modes import Mode
from trainer.steps.generation import build_group
from trainer.types import Group, Rollout

SYSTEM = {"role": "system", "content": "Answer in French."}
USER = {"role": "user", "content": "2 + 2 ="}


def group_of(policy, messages: list[dict]) -> Group:
    """Two responses with their end-of-turn token and one that was cut off."""
    group = build_group(policy, Item(messages=messages, fields={}), 0, 0, 2048)
    end = min(policy.stop_ids)
    for mode, ids in ((N, [84, 82, end]), (H, [7, end]), (H, [1, 2, 3])):
        group.rollouts.append(Rollout(mode, ids, [0.0] * len(ids), truncated=ids[-1] != end, reward=1.0))
    return group


@pytest.mark.parametrize("with_system", [True, False])
def test_decoded_prompts_have_one_system_turn_that_keeps_the_users_words(tiny_model, with_system: bool):
    policy = load_tiny_policy(tiny_model)
    group = group_of(policy, [SYSTEM, USER] if with_system else [USER])
    text = {mode: policy.tokenizer.decode(ids) for mode, ids in group.prompt_ids.items()}
    normal = "<|im_start|>system\nAnswer in French.<|im_end|>\n" if with_system else ""
    high = f"Answer in French.\n\n{policy.high_entropy_prompt}" if with_system else policy.high_entropy_prompt
    rest = "<|im_start|>user\n2 + 2 =<|im_end|>\n<|im_start|>assistant\n"
    assert text[N] == normal + rest
    assert text[H] == f"<|im_start|>system\n{high}<|im_end|>\n{rest}"


def test_rows_of_both_modes_end_in_identical_response_ids(tiny_model):
    """Q1 and Q4, Q2 and Q3: the sampled ids behind either prompt, the end-of-turn token included."""
    policy = load_tiny_policy(tiny_model)
    group = group_of(policy, [SYSTEM, USER])
    responses = [r.response_ids for r in group.rollouts]
    prompts = [group.prompt_ids[mode] for mode in Mode]
    packed = pack(prompts, [responses, responses], policy.pad_id, "per_row")
    for number, mode in enumerate(Mode):
        for place, response in enumerate(responses):
            row = number * len(responses) + place
            whole = group.prompt_ids[mode] + response
            padded = packed.input_ids_BL[row].tolist()
            assert padded == whole + [policy.pad_id] * (len(padded) - len(whole))
            assert packed.position_ids_BL[row].tolist() == list(range(len(padded)))
    tokens = packed.token_T.reshape(len(prompts), -1)
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[0].tolist() == [token for response in responses for token in response]


def test_a_users_system_message_conditions_both_modes(tiny_model):
    policy = load_tiny_policy(tiny_model)
    (beside,) = score_groups(policy, [group_of(policy, [SYSTEM, USER])], tuple(Mode))
    (without,) = score_groups(policy, [group_of(policy, [USER])], tuple(Mode))
    for mode in Mode:
        assert not torch.allclose(beside[mode].logp_T, without[mode].logp_T)
