"""Decoding on shared prompts against transformers' own cache, a copy of the prompt a row."""

import torch

from tests.fixtures.groups import load_tiny_policy
from trainer.rollout.decoders import Decoder, PlainDecoder, SharedPrefixDecoder
from trainer.rollout.prefix_cache import GROWTH

PROMPTS = [(256, 84, 82), tuple(range(1, 30)), (256, 60, 7, 9)]
#: Uneven: one prompt has a single row, which ends before the others'.
OWNER = [0, 0, 0, 1, 2, 2]
STEPS = GROWTH + 10
KEPT = {3: [0, 2, 4, 5], GROWTH + 2: [1, 3]}


def decoded(decoder: Decoder) -> list[torch.Tensor]:
    """Hidden states of a fixed sequence of tokens, with rows leaving on the way."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.arange(len(OWNER))
    tokens = torch.randint(0, 200, (STEPS, len(OWNER)), generator=generator)
    states = [decoder.prefill()]
    for step in range(STEPS):
        if step in KEPT:
            decoder.keep(KEPT[step])
            rows = rows[KEPT[step]]
        states.append(decoder.step(tokens[step, rows]))
    return states


@torch.inference_mode()
def test_shared_prompts_equal_copies_of_them(tiny_model):
    """Prompts of several lengths, unequal numbers of rows, rows and a whole prompt leaving, room growing."""
    policy = load_tiny_policy(tiny_model)
    shared = decoded(SharedPrefixDecoder(policy, PROMPTS, OWNER))
    plain = decoded(PlainDecoder(policy, PROMPTS, OWNER))
    for one, other in zip(shared, plain, strict=True):
        # The model's norms and rotations compute in float32.
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
