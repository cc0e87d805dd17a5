"""Log-probabilities and entropies of rows; of a group's responses under the prompt of each mode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from trainer.model.logprobs import compared_logprobs
from trainer.model.packing import Layout, pack
from trainer.model.policy import Policy
from trainer.model.rows import LARGEST_MICRO_BATCH_TOKENS, Row, by_context, fits, micro_batches
from trainer.objective.transfer import placed
from trainer.spec.modes import Mode
from trainer.types import Group


@dataclass(frozen=True)
class Scores:
    """Of the trained tokens of rows, such as all response tokens of a group under one mode's prompt.

    ``logp_T`` log pi(o_t) and ``entropy_T`` H_t, nats, (T,), float32 or better; ``hidden_TD`` the hidden
    states that predict the tokens, (T, D). ``likeliest_T`` whether each is the likeliest token, (T,); None
    where that was not asked.
    """

    logp_T: Tensor
    entropy_T: Tensor
    hidden_TD: Tensor
    likeliest_T: Tensor | None = None


def score_rows(
    policy: Policy,
    rows: Sequence[Row],
    temperature: float = 1.0,
    layout: Layout | None = None,
    *,
    compares: bool = False,
) -> Scores:
    """One forward pass over a micro-batch of rows.

    T are the trained tokens, row after row and in their order within each: row i has the
    ``rows[i].trained_tokens`` that follow those of the rows before. Tokens that are not trained are computed
    through, but have no place in T. Without rows T is 0, and nothing is computed; of a sharded model, whose
    passes are collective, a pass of one token is, and what is returned is connected to it.

    Gradients flow through ``logp_T`` and ``entropy_T`` where they are enabled: a loss is any function of
    these, and its ``backward()`` adds to the weights' gradients. Memory is linear in the positions of the
    micro-batch (``trainer.model.rows.micro_batches`` bounds them) and does not grow with the vocabulary.

    Args:
        temperature: logits are divided by it before the softmax.
        layout: default the fastest that the model supports.
        compares: also say which tokens are the likeliest.
    """
    device = policy.device
    if not rows and policy.sharding is not None:
        scores = score_rows(policy, [Row((policy.pad_id,), (policy.pad_id,))], temperature, layout)
        return Scores(scores.logp_T[:0], scores.entropy_T[:0], scores.hidden_TD[:0], scores.logp_T[:0])
    if not rows:
        none_T = torch.zeros(0, device=device)
        return Scores(
            none_T,
            none_T,
            policy.output_VD.new_zeros(0, policy.output_VD.shape[1]),
            none_T if compares else None,
        )
    runs = by_context(rows)
    prompts = [rows[run[0]].context_ids for run in runs]
    responses = [[rows[i].response_ids for i in run] for run in runs]
    packed = pack(prompts, responses, policy.pad_id, layout or policy.layout)
    row_T, position_T, token_T = packed.row_T, packed.position_T, packed.token_T
    picked_T = _picked(rows, runs)
    if picked_T is not None:
        row_T, position_T, token_T = row_T[picked_T], position_T[picked_T], token_T[picked_T]

    def compute() -> tuple[Tensor, ...]:
        hidden_BLD = policy.decoder(**packed.decoder_inputs(device)).last_hidden_state
        hidden_TD = hidden_BLD[placed(row_T, device), placed(position_T, device)]
        output = policy.output_layer()
        return hidden_TD, *compared_logprobs(
            hidden_TD, policy.output_VD, placed(token_T, device), output, temperature, compares
        )

    hidden_TD, logp_T, entropy_T, likeliest_T = policy.run(compute)
    return Scores(logp_T, entropy_T, hidden_TD, likeliest_T if compares else None)


def _picked(rows: Sequence[Row], runs: Sequence[Sequence[int]]) -> Tensor | None:
    """Of the tokens, packed run after run, the trained ones in the order of rows; None: all, as packed."""
    packed = [i for run in runs for i in run]
    if packed == list(range(len(rows))) and all(row.trained is None for row in rows):
        return None
    tokens = torch.arange(sum(len(row.response_ids) for row in rows))
    of_packed = tokens.split([len(rows[i].response_ids) for i in packed])
    of_row = dict(zip(packed, of_packed, strict=True))
    return torch.cat(
        [
            of_row[i] if row.trained is None else of_row[i][torch.tensor(row.trained, dtype=torch.bool)]
            for i, row in enumerate(rows)
        ]
    )


def prompts_of(group: Group, modes: Sequence[Mode]) -> list[list[int]]:
    """The group's prompt in each of ``modes``."""
    return [group.prompt_ids[mode] for mode in modes]


def group_rows(group: Group, modes: Sequence[Mode]) -> list[Row]:
    """All responses of a group under the prompts of ``modes``, mode after mode."""
    return [Row(prompt, r.response_ids) for prompt in prompts_of(group, modes) for r in group.rollouts]


def divided(
    groups: Sequence[tuple[Group, Sequence[Sequence[int]]]], layout: Layout, positions: int | None = None
) -> list[list[Group]]:
    """Groups, each with the prompts that its responses are read behind, in micro-batches to be scored.

    All of them where they fit one; otherwise by responses, without those that have no tokens, as
    ``micro_batches`` orders them. What trains is divided by ``trainer.steps.parts``.

    Args:
        positions: the largest micro-batch, but for a response that is larger by itself.
    """
    bound = LARGEST_MICRO_BATCH_TOKENS if positions is None else positions
    units = [
        (group, r, [Row(prompt, r.response_ids) for prompt in prompts])
        for group, prompts in groups
        for r in group.rollouts
    ]
    if fits([row for _, _, rows in units for row in rows], bound, layout):
        return [[group for group, _ in groups]]
    found = micro_batches(
        [unit for unit in units if unit[1].response_ids], lambda unit: unit[2], bound, layout
    )
    runs = ([list(run) for _, run in groupby(micro, key=lambda unit: id(unit[0]))] for micro in found)
    return [[replace(run[0][0], rollouts=[r for _, r, _ in run]) for run in of_micro] for of_micro in runs]


def score_groups(
    policy: Policy,
    groups: Sequence[Group],
    modes: Sequence[Mode],
    temperature: float = 1.0,
    layout: Layout | None = None,
) -> list[dict[Mode, Scores]]:
    """One forward pass over all responses of ``groups`` under the prompts of ``modes``: ``score_rows``."""
    return score_parts(policy, [(group, modes) for group in groups], temperature, layout)


def score_parts(
    policy: Policy,
    parts: Sequence[tuple[Group, Sequence[Mode]]],
    temperature: float = 1.0,
    layout: Layout | None = None,
) -> list[dict[Mode, Scores]]:
    """The same of groups, or parts of their responses, that each have their own modes."""
    rows = [row for group, modes in parts for row in group_rows(group, modes)]
    scores = score_rows(policy, rows, temperature, layout)
    scored: list[dict[Mode, Scores]] = []
    start = 0
    for group, modes in parts:
        length = int(group.lengths_G.sum())
        by_mode: dict[Mode, Scores] = {}
        for mode in modes:
            part = slice(start, start + length)
            by_mode[mode] = Scores(scores.logp_T[part], scores.entropy_T[part], scores.hidden_TD[part])
            start += length
        scored.append(by_mode)
    return scored
