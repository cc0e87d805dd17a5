"""Token layouts for scoring groups of responses under their prompts.

``shared_prefix`` puts all groups into one row without padding: a prompt once, then the responses of its
group, whose positions continue the prompt's; ``trainer.model.attention`` lets each response see the prompt
and itself. ``per_row`` gives every response its own padded row with its own copy of the prompt: the slow
reference, and the layout of models whose layers do not all attend to all that is before. Both yield the same
log-probabilities up to rounding.

Rows are concatenations of exact token ids, prompt then response; nothing is decoded or tokenised again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.model.attention import Trees, context_inputs
from trainer.model.trees import Tree
from trainer.objective.transfer import placed

Layout = Literal["shared_prefix", "per_row"]


@dataclass(frozen=True)
class PackedRows:
    """A batch for one forward pass.

    ``row_T`` and ``position_T`` say which hidden state predicts each response token, for the prompts in the
    order given and within a prompt response after response; ``token_T`` are those tokens.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    trees: tuple[Tree, ...] | None
    """What a shared-prefix row consists of; None for plain rows."""
    row_T: Tensor
    position_T: Tensor
    token_T: Tensor

    def decoder_inputs(self, device: torch.device) -> dict[str, object]:
        """Arguments for the forward pass of a model without its output layer."""
        ids, positions = placed(self.input_ids_BL, device), placed(self.position_ids_BL, device)
        if self.trees is not None:
            return context_inputs(ids, positions, Trees(self.trees))
        # Padding is behind all that is read of a row: causality hides it, and no mask is needed.
        return {"input_ids": ids, "position_ids": positions, "use_cache": False}


def pack(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    pad_id: int,
    layout: Layout = "shared_prefix",
) -> PackedRows:
    """Lay out ``responses[i]`` behind ``prompts[i]``, for every i."""
    return _one_row(prompts, responses) if layout == "shared_prefix" else _plain(prompts, responses, pad_id)


def _one_row(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[Sequence[int]]]) -> PackedRows:
    ids: list[int] = []
    positions: list[int] = []
    position_T: list[int] = []
    token_T: list[int] = []
    trees: list[Tree] = []
    for prompt, group in zip(prompts, responses, strict=True):
        trees.append(Tree(len(ids), len(prompt), tuple(map(len, group))))
        ids += prompt
        positions += range(len(prompt))
        for response in group:
            # The first token is predicted at the prompt's end, the others at their predecessor.
            if response:
                position_T += [trees[-1].first - 1, *range(len(ids), len(ids) + len(response) - 1)]
                token_T += response
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
    return PackedRows(
        torch.tensor([ids]),
        torch.tensor([positions]),
        tuple(trees),
        torch.zeros(len(token_T), dtype=torch.long),
        torch.tensor(position_T, dtype=torch.long),
        torch.tensor(token_T, dtype=torch.long),
    )


def _plain(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[Sequence[int]]], pad_id: int
) -> PackedRows:
    rows = [
        (prompt, response) for prompt, group in zip(prompts, responses, strict=True) for response in group
    ]
    length = max(len(prompt) + len(response) for prompt, response in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    row_T: list[int] = []
    position_T: list[int] = []
    for row, (prompt, response) in enumerate(rows):
        ids = [*prompt, *response]
        input_ids[row, : len(ids)] = torch.tensor(ids)
        row_T += [row] * len(response)
        position_T += range(len(prompt) - 1, len(ids) - 1)
    return PackedRows(
        input_ids,
        torch.arange(length).repeat(len(rows), 1),
        None,
        torch.tensor(row_T, dtype=torch.long),
        torch.tensor(position_T, dtype=torch.long),
        torch.tensor([token for _, response in rows for token in response], dtype=torch.long),
    )
