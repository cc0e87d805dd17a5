"""Gradient checkpointing: layers keep their inputs alone and are computed again on the way back.

transformers' own switch works in training mode only, and there it also turns dropout on and drops the
key-value cache that rollouts need. So the layers that it would checkpoint are wrapped here: wherever
gradients are recorded the wrapper recomputes, anywhere else it is the layer itself.
"""

from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.errors import InvalidSpec


def recompute_layers(model: nn.Module) -> None:
    """Make ``model`` recompute its layers in the backward pass. Raises InvalidSpec when it can't."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise InvalidSpec(
            f"model.gradient_checkpointing is true, but {type(model).__name__} has no layers that can be "
            "recomputed: give false",
            "model.gradient_checkpointing",
        )
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Any) -> Any:
    @wraps(forward)
    def run(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **options)
        # No layer draws random numbers: the model is in evaluation mode.
        return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **options)

    return run
