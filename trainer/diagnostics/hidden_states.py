"""Where in the model the modes part: similarity of hidden states on the same response tokens, layer by layer.

Any text in front of a response moves its hidden states, so the same is measured between the normal prompt and
one with neutral text of the high-entropy prompt's length: the control.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor, nn

from trainer.diagnostics.similarity import linear_cka, mean_cosine
from trainer.model.packing import pack
from trainer.model.policy import Policy
from trainer.model.scoring import divided
from trainer.objective.transfer import fetch, placed
from trainer.spec.modes import NEUTRAL_PROMPT, Mode
from trainer.types import Group

DEPTHS = (0.25, 0.5, 0.75, 1.0)
#: Tokens compared at most, evenly spread over the responses: beyond, only memory grows.
MAX_TOKENS = 4096


@torch.no_grad()
def hidden_state_metrics(
    policy: Policy, groups: Sequence[Group], positions: int | None = None
) -> dict[str, float]:
    """``diag/hidden_{cos,cka}/L*`` between the modes, and ``diag/hidden_{cos,cka}_neutral/L*``, the control.

    L* is the number of a decoder layer, from 1, at a quarter, half, three quarters and the end of the model;
    its output (the residual stream) is read where each response token is predicted. ``positions`` is the
    largest micro-batch.
    """
    neutral = neutral_policy(policy)
    limit = max(1, MAX_TOKENS // max(len(groups), 1))
    states: dict[int, list[Tensor]] = {}
    for group in groups:
        if int(group.lengths_G.sum()):
            control = neutral.prompt_ids(group.messages, Mode.HIGH_ENTROPY, group.tools)
            prompts = [*(group.prompt_ids[mode] for mode in Mode), control]
            for layer, state_PTD in _states(policy, group, prompts, limit, positions):
                states.setdefault(layer, []).append(state_PTD)
    values: dict[str, Tensor] = {}
    for layer, parts in states.items():
        normal, high, control = torch.cat(parts, dim=1)
        for name, other in (("", high), ("_neutral", control)):
            values[f"diag/hidden_cos{name}/L{layer}"] = mean_cosine(normal, other)
            values[f"diag/hidden_cka{name}/L{layer}"] = linear_cka(normal, other)
    fetched = fetch([value[None] for value in values.values()])
    return {name: float(value) for name, value in zip(values, fetched, strict=True)}


def neutral_policy(policy: Policy) -> Policy:
    """The same policy with neutral text for a high-entropy prompt: as many words as make the same length in
    tokens (to a word), repeated where it is too short."""

    def tokens(text: str) -> int:
        return len(policy.tokenizer(text, add_special_tokens=False)["input_ids"])

    words = NEUTRAL_PROMPT.split()
    length = tokens(policy.high_entropy_prompt)
    words *= 1 + length // max(tokens(NEUTRAL_PROMPT), 1)
    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        if tokens(" ".join(words[:middle])) < length:
            low = middle + 1
        else:
            high = middle
    return replace(policy, high_entropy_prompt=" ".join(words[:low]))


def decoder_layers(policy: Policy) -> Sequence[nn.Module]:
    """The decoder's blocks in order."""
    return list(next(child for child in policy.decoder.children() if isinstance(child, nn.ModuleList)))


def probed_layers(count: int) -> list[int]:
    """Numbers (from 1) of the layers at a quarter, half, three quarters and the end of ``count`` layers."""
    return sorted({ceil(depth * count) for depth in DEPTHS})


def _states(
    policy: Policy, group: Group, prompts: Sequence[Sequence[int]], limit: int, positions: int | None
) -> Iterator[tuple[int, Tensor]]:
    """By layer, part after part, states of at most ``limit`` response tokens behind each prompt; shape
    (prompts, T, D)."""
    total = int(group.lengths_G.sum())
    picked_T = torch.linspace(0, total - 1, min(limit, total)).round().long()
    of_rollouts = torch.arange(total).split(group.lengths_G.tolist())
    tokens = {id(rollout): own_T for rollout, own_T in zip(group.rollouts, of_rollouts, strict=True)}
    for (part,) in divided([(group, prompts)], policy.layout, positions):
        part_T = torch.cat([tokens[id(rollout)] for rollout in part.rollouts])
        own_T = torch.isin(part_T, picked_T).nonzero().squeeze(-1)
        if len(own_T):
            yield from _states_of(policy, part, prompts, own_T).items()


def _states_of(
    policy: Policy, group: Group, prompts: Sequence[Sequence[int]], picked_T: Tensor
) -> dict[int, Tensor]:
    """Per layer, states of these of the response tokens behind each prompt, from one forward pass."""
    responses = [[r.response_ids for r in group.rollouts]] * len(prompts)
    packed = pack(prompts, responses, policy.pad_id, policy.layout)
    total = len(packed.token_T) // len(prompts)
    picked = (picked_T + total * torch.arange(len(prompts))[:, None]).flatten()
    row, position = (placed(index[picked], policy.device) for index in (packed.row_T, packed.position_T))
    with _outputs(policy) as outputs:
        policy.run(lambda: (policy.decoder(**packed.decoder_inputs(policy.device)).last_hidden_state,))
    return {
        layer: output[row, position].float().unflatten(0, (len(prompts), -1))
        for layer, output in outputs.items()
    }


@contextmanager
def _outputs(policy: Policy) -> Iterator[dict[int, Tensor]]:
    """What the probed layers put out in the forward passes inside the block."""
    layers = decoder_layers(policy)
    outputs: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            outputs[number] = output if isinstance(output, Tensor) else output[0]

        return hook

    handles = [layers[n - 1].register_forward_hook(keep(n)) for n in probed_layers(len(layers))]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
