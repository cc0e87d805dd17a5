"""Attention of rows that each have their own copy of the prompt, without a mask of their length squared.

Models with windows, and those that mix attention with other layers, are trained in the layout ``per_row``:
one row a response, padded on the right, where causality alone hides the padding. So full attention needs no
mask at all, and for a window transformers' dense one is replaced by its width, which a layer gets as it would
get the mask. What has no such form (decoding on padded prompts, chunks, images) gets transformers' own.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer.model.spans import Spans, span_attention

IMPLEMENTATION = "policysplit_rows"

LAYERS = frozenset({"full_attention", "sliding_attention", "linear_attention"})
"""Kinds of layers whose masks are known: causal ones, windows, and such as use none of these."""


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **options: Any,
) -> Tensor | None:
    """None for plain causal rows, the window's width where they are longer than a window, else the mask."""
    plain = attention_mask is None and q_length == kv_length and isinstance(q_offset, int) and q_offset == 0
    if plain and allow_is_causal_skip:
        if local_size is None or kv_length <= local_size:
            return None
        # Four axes, as layers expect of a mask; on the CPU, where reading it waits for nothing.
        return torch.full((1, 1, 1, 1), local_size)
    return sdpa_mask(
        batch_size,
        q_length,
        kv_length,
        q_offset=q_offset,
        attention_mask=attention_mask,
        local_size=local_size,
        allow_is_causal_skip=allow_is_causal_skip,
        **options,
    )


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers' layers call; shapes (B, H, L, D) to (B, L, H, D)."""
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    rows, _, length, size = query.shape
    lengths = (length,) * rows
    spans = Spans(lengths, lengths, query.device, window=int(attention_mask))
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    output = span_attention(q, k, v, spans, size**-0.5 if scaling is None else scaling)
    return output.unflatten(0, (rows, length)), None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, _mask)
