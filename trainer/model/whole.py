"""A sharded model's weights, whole, layer by layer: for checkpoints and for engines of other processes.

A layer's weights exist whole at a time, never the model's. Names are those that transformers saves them by,
precision is the one that is computed in, adapters are merged.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from trainer.distributed.sharding import Sharding, put_together
from trainer.system.files import give_name

#: Bytes of one file of weights.
FILE_BYTES = 4 << 30
_LAYER = re.compile(r".*?\.\d+\.")


def whole_weights(model: Any, sharding: Sharding) -> Iterator[dict[str, Tensor]]:
    """The weights by the names of a checkpoint, in portions; collective, to its end. Tied ones come once."""
    sharding.rest()
    state: dict[str, Tensor] = model.state_dict()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied = parameters - {name for name, _ in model.named_parameters()}
    ignored = set(model._keys_to_ignore_on_save or ())
    names = [name for name in state if name not in tied | ignored]
    for _, portion in groupby(names, key=_layer_of):
        whole = {
            name: put_together(state[name], sharding.dtype if name in parameters else None)
            for name in portion
        }
        yield revert_weight_conversion(model, _merged(model, whole))


def whole_adapter(model: Any, sharding: Sharding) -> dict[str, Tensor]:
    """The weights of adapters by their names in the model, in the precision that is computed in."""
    sharding.rest()
    state: dict[str, Tensor] = model.state_dict()
    return {name: put_together(one, sharding.dtype) for name, one in state.items() if ".lora_" in name}


def _layer_of(name: str) -> str:
    found = _LAYER.match(name)
    return name if found is None else found.group()


@torch.no_grad()
def _merged(model: Any, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W + alpha/rank * B A in place of W, as ``trainer.model.lora.merged`` has it."""
    merged: dict[str, Tensor] = {}
    for name, weight in whole.items():
        if ".lora_" in name:
            continue
        layer, adapted, of_layer = name.partition(".base_layer.")
        a, b = (whole.get(f"{layer}.lora_{which}.default.weight") for which in "AB")
        if of_layer == "weight" and a is not None and b is not None:
            wide = torch.promote_types(weight.dtype, torch.float32)
            scale = model.get_submodule(layer).scaling["default"]
            weight = (weight.to(wide) + (b.to(wide) @ a.to(wide)) * scale).to(weight.dtype)
        merged[f"{layer}.{of_layer}" if adapted else name] = weight
    return merged


def save_whole(model: Any, sharding: Sharding, folder: Path | None) -> dict[str, Tensor]:
    """Write config and weights as ``save_pretrained`` does; the adapter's weights, for whoever saves these.

    Collective: the others, who write nothing, give None. What fails in writing is raised when all parts have
    come together, so that nobody waits for this rank.
    """
    adapter = whole_adapter(model, sharding)
    portions = whole_weights(model, sharding)
    try:
        if folder is not None:
            model.config.dtype = str(sharding.dtype).removeprefix("torch.")
            model.config.architectures = [type(model).__name__]
            model.config.save_pretrained(folder)
            if model.can_generate():
                model.generation_config.save_pretrained(folder)
            _write(folder, portions)
    finally:
        for _ in portions:
            pass
    return adapter


def _write(folder: Path, portions: Iterator[dict[str, Tensor]]) -> None:
    """Files of ``FILE_BYTES`` at most, or one weight, with an index where they are several."""
    files: list[list[str]] = []
    held: dict[str, Tensor] = {}
    total = numbers = 0

    def put_away() -> None:
        save_file(held, folder / f"part-{len(files)}", metadata={"format": "pt"})
        files.append(list(held))
        held.clear()

    for portion in portions:
        for name, weight in portion.items():
            if held and sum(map(_bytes, held.values())) + _bytes(weight) > FILE_BYTES:
                put_away()
            held[name] = weight.cpu().contiguous()
            total, numbers = total + _bytes(weight), numbers + weight.numel()
    put_away()
    if len(files) == 1:
        give_name(folder / "part-0", "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, names in enumerate(files):
        file = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        give_name(folder / f"part-{number}", file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {"total_parameters": numbers, "total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
