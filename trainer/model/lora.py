"""Low-rank adapters (Hu et al., arXiv 2106.09685): W x + alpha/rank * B A x, with W frozen.

The adapters sit inside the model's own linear layers, so the model is called as ever. A checkpoint is the
whole model with W + alpha/rank * B A in place of W, rounded once to the model's precision, and the adapter
itself as peft saves it. The reference of a reference-KL is the same model with the adapters turned off.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from trainer.errors import InvalidSpec
from trainer.seeds import derive_seed
from trainer.spec.model import LoraSpec

NAME = "default"


def add_adapters(model: PreTrainedModel, spec: LoraSpec, seed: int) -> None:
    """Put adapters into ``model`` and freeze everything else; A is drawn from ``seed``, B is zero.

    Raises InvalidSpec when a target is not a linear layer below the output layer.
    """
    linear = _linear_names(model)
    for target in spec.target_modules or ():
        if target not in linear:
            raise InvalidSpec(
                f"lora.target_modules has {target!r}, which is not a linear layer of this model below its "
                f"output layer: give names from {', '.join(sorted(linear))}",
                "lora.target_modules",
            )
    config = peft.LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]  # any number works, the type says int
        lora_dropout=spec.dropout,
        target_modules=spec.target_modules or sorted(linear),
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.config.name_or_path,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        peft.inject_adapter_in_model(config, model, NAME)


def _linear_names(model: PreTrainedModel) -> set[str]:
    output = model.get_output_embeddings()
    return {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    }


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """Within the block the model computes with W alone: the model that training began with."""
    layers = _adapted(model)
    # Not by enable_adapters, which freezes them meanwhile: what sharding puts together would stay frozen.
    for _, layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for _, layer in layers:
            layer._disable_adapters = False


@contextmanager
@torch.no_grad()
def merged(model: nn.Module) -> Iterator[None]:
    """Within the block the model is a plain one with W + alpha/rank * B A; afterwards it is as it was, to the
    bit. Takes memory for a second copy of the adapted weights meanwhile."""
    before = []
    try:
        for name, layer in _adapted(model):
            base, (a, b) = layer.base_layer, (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
            parent = model.get_submodule(name.rpartition(".")[0])
            before.append((parent, name.rpartition(".")[2], layer, base.weight.data))
            # Summed in float32 and rounded once: peft's own merge rounds the product first.
            wide = torch.promote_types(base.weight.dtype, torch.float32)
            delta = (b.to(wide) @ a.to(wide)) * layer.scaling[NAME]
            base.weight.data = (base.weight.to(wide) + delta).to(base.weight.dtype)
            setattr(parent, before[-1][1], base)
        yield
    finally:
        for parent, attribute, layer, weight in before:
            layer.base_layer.weight.data = weight
            setattr(parent, attribute, layer)


def save_adapter(model: PreTrainedModel, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write the adapter alone, in peft's format: the weights in use and how they are applied.

    ``weights``: those of the adapters, where the model has only parts of them.
    """
    folder.mkdir()
    state = peft.get_peft_model_state_dict(
        model, state_dict=weights, adapter_name=NAME, save_embedding_layers=False
    )
    tensors = {f"base_model.model.{name}": value.cpu().contiguous() for name, value in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config: Any = copy.copy(model.peft_config[NAME])
    config.target_modules = sorted(config.target_modules)  # a set, whose order another process has otherwise
    config.save_pretrained(str(folder))
