"""The model being trained: weights, tokenizer, and the facts about them that the rest needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.errors import InvalidSpec
from trainer.modes import Message, Mode, messages_for_mode
from trainer.packing import Layout
from trainer.spec import ModelSpec


@dataclass
class Policy:
    """One set of weights with both modes' way of prompting it."""

    model: Any
    tokenizer: Any
    high_entropy_prompt: str
    layout: Layout

    @property
    def device(self) -> torch.device:
        return self.output_VD.device

    @property
    def output_VD(self) -> Tensor:
        """The output matrix, (V, D); the input embedding itself where the two are tied."""
        return self.model.get_output_embeddings().weight

    @property
    def pad_id(self) -> int:
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return min(self.stop_ids)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a response."""
        ids: set[int] = set()
        for source in (self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id):
            ids.update(source if isinstance(source, list) else [source] if source is not None else [])
        return frozenset(ids)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def prompt_ids(self, messages: list[Message], mode: Mode) -> list[int]:
        """Token ids of the conversation in ``mode``, ready for the assistant's turn."""
        ids = self.tokenizer.apply_chat_template(
            messages_for_mode(messages, mode, self.high_entropy_prompt),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        return [int(token) for token in ids]


def load_policy(spec: ModelSpec, high_entropy_prompt: str) -> Policy:
    """Load weights (safetensors only) and tokenizer from a local folder.

    Raises InvalidSpec when the folder is no model, or the model lacks what training needs.
    """
    path = Path(spec.path)
    if not (path / "config.json").is_file():
        raise InvalidSpec(f"{spec.path} is no model folder: it has no config.json", "model.path")
    if not any(path.glob("*.safetensors")):
        raise InvalidSpec(
            f"{spec.path} has no .safetensors weights; other formats are not loaded", "model.path"
        )
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    if not tokenizer.chat_template:
        raise InvalidSpec(f"the tokenizer in {spec.path} has no chat template", "model.path")
    model: Any = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=getattr(torch, spec.dtype),
        attn_implementation="sdpa",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    if torch.cuda.is_available():
        model = model.cuda()
    # Dropout would make the scored policy another one than the sampled policy.
    model.eval()
    if getattr(model.config, "final_logit_softcapping", None):
        raise InvalidSpec("models that cap their final logits are not supported", "model.path")
    return Policy(model, tokenizer, high_entropy_prompt, _layout(model))


def _layout(model: nn.Module) -> Layout:
    """Shared prefixes need plain causal attention in every layer; windows would need masks of their own."""
    config: Any = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return "per_row" if windowed or kinds != {"full_attention"} else "shared_prefix"
