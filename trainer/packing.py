"""Token layouts for scoring a group's responses under a prompt.

``shared_prefix`` puts a prompt once in front of all responses of its group; each response attends to the
prompt and to itself, and its positions continue the prompt's. ``per_row`` gives every response its own copy
of the prompt: the slow reference. Both yield the same log-probabilities up to rounding.

Rows are concatenations of exact token ids, prompt then response; nothing is decoded or tokenised again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Layout = Literal["shared_prefix", "per_row"]


@dataclass(frozen=True)
class PackedRows:
    """A batch for one forward pass.

    ``row_T`` and ``position_T`` say which hidden state predicts each response token, for the prompts in the
    order given and within a prompt response after response; ``token_T`` are those tokens.
    """

    input_ids_BL: Tensor
    position_ids_BL: Tensor
    attention_mask: Tensor
    """Boolean, True where a query may look: (B, 1, L, L) for shared prefixes, (B, L) for plain rows."""
    row_T: Tensor
    position_T: Tensor
    token_T: Tensor


def pack(
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[Sequence[int]]],
    pad_id: int,
    layout: Layout = "shared_prefix",
) -> PackedRows:
    """Lay out ``responses[i]`` behind ``prompts[i]``, for every i."""
    rows: list[tuple[Sequence[int], Sequence[Sequence[int]]]] = []
    for prompt, group in zip(prompts, responses, strict=True):
        if layout == "shared_prefix":
            rows.append((prompt, group))
        else:
            rows.extend((prompt, [response]) for response in group)
    length = max(len(prompt) + sum(map(len, group)) for prompt, group in rows)
    input_ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    position_ids = torch.zeros((len(rows), length), dtype=torch.long)
    # Segment 0 is the prompt, 1.. the responses, -1 padding.
    segment = torch.full((len(rows), length), -1, dtype=torch.long)
    row_T: list[int] = []
    position_T: list[int] = []
    token_T: list[int] = []
    for row, (prompt, group) in enumerate(rows):
        ids = list(prompt)
        positions = list(range(len(prompt)))
        segments = [0] * len(prompt)
        for number, response in enumerate(group, start=1):
            if response:
                # The first token is predicted at the prompt's end, the others at their predecessor.
                position_T += [len(prompt) - 1, *range(len(ids), len(ids) + len(response) - 1)]
                row_T += [row] * len(response)
                token_T += response
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
            segments += [number] * len(response)
        input_ids[row, : len(ids)] = torch.tensor(ids)
        position_ids[row, : len(ids)] = torch.tensor(positions)
        segment[row, : len(ids)] = torch.tensor(segments)
    mask = _tree_mask(segment) if layout == "shared_prefix" else segment >= 0
    return PackedRows(
        input_ids, position_ids, mask, torch.tensor(row_T), torch.tensor(position_T), torch.tensor(token_T)
    )


def _tree_mask(segment_BL: Tensor) -> Tensor:
    """Who attends to whom: earlier positions of the same segment, and of the prompt; (B, 1, L, L)."""
    length = segment_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segment_BL[:, :, None] == segment_BL[:, None, :]
    prompt = (segment_BL == 0)[:, None, :] & (segment_BL >= 0)[:, :, None]
    # Padding attends to padding (same segment): a query with nothing to attend to would give NaN.
    return ((same | prompt) & causal)[:, None]
