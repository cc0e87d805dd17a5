"""Texts as unit vectors, by an encoder that is not the policy: a fixed instrument for their diversity.

Pooled as sentence-transformers does for such models: the mean of the last hidden states over the attention
mask, then L2-normalised. Texts beyond the encoder's limit are cut off, as it does there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trainer.errors import InvalidSpec
from trainer.objective.transfer import placed

PARAM = "evaluation.embedding_model"
BATCH = 64
#: Parts of a sentence-transformers model that are computed here.
KNOWN_PARTS = {"Transformer", "Pooling", "Normalize"}


@dataclass(frozen=True)
class Encoder:
    """A loaded encoder in float32."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of ``texts``, float32 on the CPU; shape (texts, D)."""
        # Neighbours in a batch are about as long as each other: little is padded.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        parts = [
            self._embed([texts[number] for number in order[start : start + BATCH]])
            for start in range(0, len(order), BATCH)
        ]
        vectors_ND = torch.cat(parts).cpu()
        return vectors_ND[torch.tensor(order).argsort()]

    def _embed(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        inputs = {name: placed(values, self.model.device) for name, values in inputs.items()}
        hidden_NLD = self.model(**inputs).last_hidden_state
        mask_NL1 = inputs["attention_mask"][..., None].to(hidden_NLD)
        mean_ND = (hidden_NLD * mask_NL1).sum(dim=1) / mask_NL1.sum(dim=1)
        return torch.nn.functional.normalize(mean_ND, dim=-1)


def load_encoder(path: str, device: torch.device) -> Encoder:
    """Load an encoder (safetensors only) from a local folder.

    Raises InvalidSpec when it is none, is pooled in another way, or gives no vector even for a word.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise InvalidSpec(f"{path} is not a model folder: it has no config.json", PARAM)
    if not any(folder.glob("*.safetensors")):
        raise InvalidSpec(f"{path} has no .safetensors weights; other formats are not loaded", PARAM)
    _check_parts(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        encoder = Encoder(model.eval().to(device), tokenizer, _max_tokens(folder, tokenizer, model.config))
        # Alone, beside a longer text, and nothing at all: what an evaluation may bring.
        tried = encoder.embed(["", "a", "a few words"])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InvalidSpec(f"{path} does not work as a text encoder: {reason}", PARAM) from error
    if not torch.allclose(tried.norm(dim=-1), torch.ones(len(tried))):
        raise InvalidSpec(f"{path} does not work as a text encoder: its vectors have zero length", PARAM)
    return encoder


def _check_parts(folder: Path) -> None:
    """Where the folder says how it is pooled, it must be the way of this file."""
    for part in _read(folder / "modules.json", []):
        kind = str(part.get("type")).rpartition(".")[2]
        if kind not in KNOWN_PARTS:
            raise InvalidSpec(f"{folder} has a part {kind!r}; supported are {sorted(KNOWN_PARTS)}", PARAM)
        if kind == "Pooling":
            pooling = _read(folder / str(part.get("path")) / "config.json", {})
            chosen = {name for name, value in pooling.items() if name.startswith("pooling_mode") and value}
            if not chosen <= {"pooling_mode_mean_tokens"}:
                raise InvalidSpec(f"{folder} pools by {sorted(chosen)}; only the mean is supported", PARAM)


def _max_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase, config: object) -> int:
    limits = (
        _read(folder / "sentence_bert_config.json", {}).get("max_seq_length"),
        tokenizer.model_max_length,
        getattr(config, "max_position_embeddings", None),
    )
    return min(limit for limit in limits if limit is not None)


def _read(path: Path, default: object) -> Any:
    return json.loads(path.read_text()) if path.is_file() else default
