"""Log-probabilities and entropies of a group's responses under the prompt of each mode."""

from dataclasses import dataclass

from torch import Tensor

from trainer.model.logprobs import token_logprobs
from trainer.model.packing import Layout, pack
from trainer.model.policy import Policy
from trainer.spec.modes import Mode
from trainer.types import Group


@dataclass(frozen=True)
class Scores:
    """Of all response tokens of a group under one prompt mode; shapes (T,), (T,), (T, D)."""

    logp_T: Tensor
    entropy_T: Tensor
    hidden_TD: Tensor


def score_groups(
    policy: Policy,
    groups: list[Group],
    modes: tuple[Mode, ...],
    temperature: float = 1.0,
    layout: Layout | None = None,
) -> list[dict[Mode, Scores]]:
    """One forward pass over all responses of ``groups`` under the prompts of ``modes``.

    Gradients flow through ``logp_T`` and ``entropy_T`` where they are enabled. ``layout`` defaults to the
    fastest that the model supports.
    """
    prompts = [group.prompt_ids[mode] for group in groups for mode in modes]
    responses = [[r.response_ids for r in group.rollouts] for group in groups for _ in modes]
    packed = pack(prompts, responses, policy.pad_id, layout or policy.layout)
    device = policy.device
    hidden_BLD = policy.decoder(**packed.decoder_inputs(device)).last_hidden_state
    hidden_TD = hidden_BLD[packed.row_T.to(device), packed.position_T.to(device)]
    logp_T, entropy_T = token_logprobs(
        hidden_TD,
        policy.output_VD,
        packed.token_T.to(device),
        temperature,
        output=policy.output_layer(),
    )
    scored: list[dict[Mode, Scores]] = []
    start = 0
    for group in groups:
        length = int(group.lengths_G.sum())
        by_mode = {}
        for mode in modes:
            part = slice(start, start + length)
            by_mode[mode] = Scores(logp_T[part], entropy_T[part], hidden_TD[part])
            start += length
        scored.append(by_mode)
    return scored
