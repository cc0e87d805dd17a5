"""How large a model is, from its folder: ``config.json`` and the heads of its weight files. Torch-free."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import InvalidSpec

#: Numbers of a row whose moments have a scale in common in eight bits, at most (``trainer.model.moments``).
BLOCK = 256
_LONGEST_HEAD = 100 << 20
_LAYER = re.compile(r"\blayers\.(\d+)\.")
#: Parts of a checkpoint that a run does not load: other senses, and heads that guess further tokens.
_LEFT = re.compile(r"vision|visual|audio|image|\bmtp\b|rotary_emb|inv_freq")
_PLAIN = frozenset({"F32", "F16", "BF16"})


#: As in trainer.model.dense_layers, by what a configuration calls them.
DENSE_FORMS = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class ModelSize:
    """Numbers of a decoder; widths are 0 where its configuration does not name them."""

    parameters: int
    linear: tuple[tuple[str, int, int], ...]
    """The matrices of its layers: last part of the name, numbers out and in."""
    vocabulary: int
    layers: int
    hidden: int
    queries: int
    """Width of all heads together."""
    keys: int
    """Width of all key heads together; values are as wide."""
    inner: int
    """Width within a feed-forward layer."""
    vectors: int
    """Numbers that are not in matrices: of norms and biases."""
    blocks: int
    """Blocks of ``BLOCK`` numbers, or of what is left of a row, in the rows of all matrices."""
    dense: bool
    """Whether a CPU computes its layers as ``trainer.model.dense_layers`` does, and keeps less of them."""
    exact: bool
    """Whether ``parameters`` are those that a run loads. Not so of compressed weights, and of models with
    other senses, of which a run loads a part."""

    @property
    def in_layers(self) -> int:
        """Numbers in the matrices of layers."""
        return sum(rows * columns for _, rows, columns in self.linear)

    @property
    def output(self) -> int:
        """Numbers of the output matrix."""
        return self.vocabulary * self.hidden


def model_size(folder: Path) -> ModelSize:
    """Of a model folder in Hugging Face format. Raises InvalidSpec where it cannot be read."""
    try:
        return _size(folder)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvalidSpec(f"the model in {folder} cannot be read: {error}", "model.path") from error


def _size(folder: Path) -> ModelSize:
    config = json.loads((folder / "config.json").read_text())
    tensors = {name: found for file in sorted(folder.glob("*.safetensors")) for name, found in _head(file)}
    composed = "text_config" in config
    config = config.get("text_config", config)
    layers = int(config.get("num_hidden_layers") or 0)
    kept = {name: one for name, one in tensors.items() if _loaded(name, layers)}
    hidden, heads = int(config.get("hidden_size") or 0), int(config.get("num_attention_heads") or 0)
    size = int(config.get("head_dim") or (hidden // heads if heads else 0))
    return ModelSize(
        parameters=sum(math.prod(shape) for shape, _ in kept.values()),
        linear=tuple(
            (name.removesuffix(".weight").rpartition(".")[2], *shape)
            for name, (shape, _) in kept.items()
            if len(shape) == 2 and _LAYER.search(name) and name.endswith(".weight")
        ),
        vocabulary=int(config.get("vocab_size") or 0),
        layers=layers,
        hidden=hidden,
        queries=heads * size,
        keys=int(config.get("num_key_value_heads") or heads) * size,
        inner=int(config.get("intermediate_size") or 0),
        vectors=sum(math.prod(shape) for shape, _ in kept.values() if len(shape) < 2),
        blocks=sum(math.prod(shape[:-1]) * blocks_of(shape[-1]) for shape, _ in kept.values() if shape[1:]),
        dense=_is_dense(config),
        exact=bool(kept) and not composed and all(kind in _PLAIN for _, kind in tensors.values()),
    )


def _is_dense(config: dict[str, Any]) -> bool:
    windowed = config.get("sliding_window") and config.get("use_sliding_window", True)
    known = config.get("model_type") in DENSE_FORMS and config.get("hidden_act", "silu") == "silu"
    return known and not windowed


def blocks_of(columns: int) -> int:
    """Blocks of a row."""
    return -(-columns // BLOCK)


def _loaded(name: str, layers: int) -> bool:
    found = _LAYER.search(name)
    return _LEFT.search(name) is None and (found is None or int(found[1]) < layers)


def _head(file: Path) -> list[tuple[str, tuple[tuple[int, ...], str]]]:
    """Names, shapes and types of a safetensors file: eight bytes of length, then JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _LONGEST_HEAD:
            raise ValueError(f"{file.name} is not a safetensors file")
        head: dict[str, Any] = json.loads(opened.read(length))
    head.pop("__metadata__", None)
    return [(name, (tuple(one["shape"]), one["dtype"])) for name, one in head.items()]
