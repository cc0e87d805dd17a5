"""The model being trained: weights, tokenizer, and the facts about them that the rest needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from pydantic import JsonValue
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.distributed.sharding import Outputs, Sharding, shard_model
from trainer.errors import InvalidSpec
from trainer.graders.thoughts import ALL_MARKS, CHANNEL_MARKS
from trainer.model.attention import IMPLEMENTATION, attends_by_context
from trainer.model.dense_layers import speed_up_layers
from trainer.model.generation_config import fit_generation_config, stop_ids
from trainer.model.logprobs import OutputLayer
from trainer.model.packed_linear import pack_linear_layers
from trainer.model.packing import Layout
from trainer.model.recompute import recompute_layers
from trainer.model.row_attention import IMPLEMENTATION as ROWS
from trainer.model.row_attention import LAYERS
from trainer.model.whole import save_whole
from trainer.spec.chat_template import knows_developer
from trainer.spec.messages import for_template
from trainer.spec.model import LogitsDtype, LoraSpec, ModelSpec
from trainer.spec.modes import Message, Mode, Placement, messages_for_mode

Tools = list[dict[str, object]] | None


@dataclass
class Policy:
    """One set of weights with both modes' way of prompting it."""

    model: Any
    tokenizer: Any
    high_entropy_prompt: str
    layout: Layout
    placement: Placement = "system"
    chat_template_kwargs: Mapping[str, JsonValue] = field(default_factory=dict)
    logits_dtype: LogitsDtype = "float32"
    adapted: bool = False
    """Whether low-rank adapters are what is trained."""
    notes: Sequence[str] = ()
    """What was found about the model when it was loaded that the user should know."""
    sharding: Sharding | None = None
    """Where each rank holds a part of the weights."""
    _output: tuple[tuple[int, torch.dtype, int], OutputLayer] | None = field(
        default=None, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.layout == "shared_prefix":
            self.model.set_attn_implementation(IMPLEMENTATION)

    @property
    def device(self) -> torch.device:
        return self.output_VD.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.output_VD.dtype if self.sharding is None else self.sharding.dtype

    @property
    def output_VD(self) -> Tensor:
        """The output matrix, (V, D); the input embedding itself where the two are tied.

        Of a sharded model a shard, but inside ``run`` and ``whole``.
        """
        return self.model.get_output_embeddings().weight

    @property
    def pad_id(self) -> int:
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return min(self.stop_ids)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a response."""
        return stop_ids(self.model, self.tokenizer)

    @property
    def context_length(self) -> int | None:
        """Tokens of the longest sequence that the model was made for; None where its config does not say."""
        config = self.model.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        stretched = (rope.get("original_max_position_embeddings") or 0) * (rope.get("factor") or 0)
        return max(int(stretched), getattr(config, "max_position_embeddings", None) or 0) or None

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def decoder(self) -> nn.Module:
        """The model without its output layer."""
        return self.model.get_decoder()

    def run(self, compute: Callable[[], Outputs]) -> Outputs:
        """A forward pass: what ``compute`` makes with the weights. Of a sharded model collective, and where
        gradients are enabled a backward pass has to follow (``trainer.distributed.sharding``)."""
        return compute() if self.sharding is None else self.sharding.run(compute)

    def whole(self) -> AbstractContextManager[None]:
        """Within the block this process can compute by itself; collective where it begins."""
        return nullcontext() if self.sharding is None else self.sharding.whole()

    def output_layer(self) -> OutputLayer:
        """Logits from hidden states, with the weights of now. Of a sharded model inside ``run`` or ``whole``,
        or after a pass and before its backward pass."""
        weight = self.output_VD
        # Shards are put together in the same memory, whose version stays, whatever has become of them.
        version = weight._version if self.sharding is None else self.sharding.passes
        made_of = (weight.data_ptr(), weight.dtype, version)
        if self._output is None or self._output[0] != made_of:
            self._output = (made_of, OutputLayer(weight, self.logits_dtype))
        return self._output[1]

    def messages(self, messages: list[Message], mode: Mode) -> list[Message]:
        """The conversation as the chat template sees it in ``mode``."""
        known = for_template(messages, knows_developer=knows_developer(self.tokenizer.chat_template))
        return messages_for_mode(known, mode, self.high_entropy_prompt, self.placement)

    def render(self, messages: list[Message], tools: Tools = None, *, asks: bool = True) -> str:
        """The conversation's text, where it ``asks`` ready for the assistant's turn. Raises
        jinja2.TemplateError."""
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tools=tools,
                add_generation_prompt=asks,
                tokenize=False,
                **self.chat_template_kwargs,
            )
        )

    def prompt_ids(self, messages: list[Message], mode: Mode, tools: Tools = None) -> list[int]:
        """Token ids of the conversation in ``mode``, ready for the assistant's turn."""
        ids = self.tokenizer.apply_chat_template(
            self.messages(messages, mode),
            tools=tools,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self.chat_template_kwargs,
        )
        return [int(token) for token in ids]

    def text(self, token_ids: Sequence[int]) -> str:
        """What the tokens say, without special ones."""
        decoded = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return decoded if isinstance(decoded, str) else "".join(decoded)

    def token_text(self, token: int) -> str:
        """What one token says by itself, special ones too; decoded the first time alone, in some 7 µs."""
        if token not in self._token_texts:
            self._token_texts[token] = str(self.tokenizer.decode([token]))
        return self._token_texts[token]

    @cached_property
    def _token_texts(self) -> dict[int, str]:
        """Of the tokens that were asked for: as many as the vocabulary has at the most."""
        return {}

    def response_text(self, token_ids: Sequence[int]) -> str:
        """What the tokens say, with those special ones that mark thoughts (``trainer.graders.thoughts``)."""
        marks = self._marks
        if marks.keys().isdisjoint(token_ids):
            return self.text(token_ids)
        parts, start = [], 0
        for at, token in enumerate(token_ids):
            if token in marks:
                parts += [self.text(token_ids[start:at]), marks[token]]
                start = at + 1
        return "".join([*parts, self.text(token_ids[start:])])

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that are marks of thoughts, by id. Those of channels: where there are channels."""
        special = {
            token: added.content
            for token, added in self.tokenizer.added_tokens_decoder.items()
            if added.special and added.content in ALL_MARKS
        }
        channels = "<|channel|>" in special.values()
        return {token: mark for token, mark in special.items() if channels or mark not in CHANNEL_MARKS}

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within the block this is the model that training began with: adapters, if any, are off."""
        if not self.adapted:
            yield
            return
        from trainer.model.lora import adapters_off

        with adapters_off(self.model):
            yield

    def save(self, folder: Path | None) -> None:
        """Write the whole model and its tokenizer in Hugging Face format; an adapter also by itself.

        Of a sharded model collective, layer by layer; None: only give this rank's parts.
        """
        if folder is not None:
            self.tokenizer.save_pretrained(folder)
        if self.sharding is not None:
            adapter = save_whole(self.model, self.sharding, folder)
            if self.adapted and folder is not None:
                from trainer.model.lora import save_adapter

                save_adapter(self.model, folder / "adapter", adapter)
            return
        if folder is None:
            return
        if not self.adapted:
            self.model.save_pretrained(folder)
            return
        from trainer.model.lora import merged, save_adapter

        with merged(self.model):
            self.model.save_pretrained(folder)
        save_adapter(self.model, folder / "adapter")


def load_policy(
    spec: ModelSpec,
    high_entropy_prompt: str,
    *,
    placement: Placement = "system",
    chat_template_kwargs: Mapping[str, JsonValue] | None = None,
    lora: LoraSpec | None = None,
    seed: int = 0,
    to_shard: bool = False,
) -> Policy:
    """Load weights (safetensors only) and tokenizer from a local folder; ``seed`` draws adapters.

    ``to_shard``: left as ``shard`` takes it, in the host's memory.

    Raises InvalidSpec when the folder is not a model, or the model lacks what training needs.
    """
    path = Path(spec.path)
    if not (path / "config.json").is_file():
        raise InvalidSpec(f"{spec.path} is not a model folder: it has no config.json", "model.path")
    if not any(path.glob("*.safetensors")):
        raise InvalidSpec(
            f"{spec.path} has no .safetensors weights; other formats are not loaded", "model.path"
        )
    variables = dict(chat_template_kwargs or {})
    tokenizer, model = _load(path, getattr(torch, spec.dtype))
    notes = fit_generation_config(model, tokenizer, variables)
    # Dropout would make the scored policy another one than the sampled policy.
    model.eval()
    if lora is not None:
        from trainer.model.lora import add_adapters  # peft takes a second to import

        add_adapters(model, lora, seed)
    if torch.cuda.is_available() and not to_shard:
        model = model.cuda()
    _check_output_layer(model)
    layout = _layout(model)
    if not to_shard:  # a packed copy would be one of all weights
        pack_linear_layers(model.get_decoder())
        if layout == "shared_prefix":
            speed_up_layers(model)
    if spec.gradient_checkpointing:
        recompute_layers(model)
    return Policy(
        model,
        tokenizer,
        high_entropy_prompt,
        layout,
        placement,
        variables,
        spec.logits_dtype,
        adapted=lora is not None,
        notes=notes,
    )


def shard(policy: Policy) -> None:
    """Divide the policy's weights over the ranks; collective. Raises InvalidSpec where that cannot be."""
    # Those that could be computed again are the model's layers.
    layers = [module for module in policy.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    try:
        policy.sharding = shard_model(policy.model, layers)
    except ValueError as error:
        raise InvalidSpec(
            f"{type(policy.model).__name__} cannot be sharded: {error}. Give optimizer.sharding 'replicated'",
            "optimizer.sharding",
        ) from error


def load_reference(spec: ModelSpec, policy: Policy) -> Policy:
    """The model that training of ``policy`` begins with, never to be trained; sharded if that is.

    With adapters it is ``policy`` itself, for they can be off: there is no second copy of the weights.
    """
    if policy.adapted:
        return policy
    sharded = policy.sharding is not None
    reference = load_policy(spec, policy.high_entropy_prompt, to_shard=sharded)
    reference.model.requires_grad_(False)
    if sharded:
        shard(reference)
    return reference


def _load(path: Path, dtype: torch.dtype) -> tuple[PreTrainedTokenizerBase, Any]:
    """Tokenizer and model. Raises InvalidSpec where transformers cannot load them, or lacks a template."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        if not tokenizer.chat_template:
            raise InvalidSpec(f"the tokenizer in {path} has no chat template", "model.path")
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            attn_implementation=_attention(config),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError, AttributeError, NotImplementedError) as error:
        raise InvalidSpec(
            f"transformers {transformers.__version__} cannot load the model in {path} for text generation: "
            f"{type(error).__name__}: {error}",
            "model.path",
        ) from error
    return tokenizer, model


def _attention(config: PreTrainedConfig) -> str:
    """Scaled-dot-product attention, but for models that have an attention of another form."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"


@torch.no_grad()
def _check_output_layer(model: Any) -> None:
    """Logits are computed here, from hidden states: they must be what the model itself would say."""
    output = model.get_output_embeddings()
    if getattr(output, "bias", None) is not None:
        raise InvalidSpec("models whose output layer has a bias are not supported", "model.path")
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        raise InvalidSpec("models that cap their final logits are not supported", "model.path")
    ids = torch.arange(2, device=output.weight.device)[None]
    found = model(input_ids=ids, use_cache=False).logits.float()
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    expected = (hidden @ output.weight.t()).float()
    close = 4 * torch.finfo(output.weight.dtype).eps
    if not torch.allclose(found, expected, rtol=close, atol=close * float(expected.abs().max())):
        raise InvalidSpec(
            f"the logits of {type(model).__name__} are not the product of hidden states and output "
            "matrix: models that, say, scale them are not supported",
            "model.path",
        )


def _layout(model: PreTrainedModel) -> Layout:
    """Shared prefixes where every layer attends to all that is before, by transformers' own interface.

    What else a model may do to its attention shows when it is tried. Others have rows of their own, without
    dense masks where the kinds of their layers are known.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    loaded_with = str(config._attn_implementation)
    if not windowed and kinds == {"full_attention"}:
        model.set_attn_implementation(IMPLEMENTATION)
        if attends_by_context(model.get_decoder(), config.num_hidden_layers):
            return "shared_prefix"
    by_rows = loaded_with == "sdpa" and kinds <= LAYERS
    model.set_attn_implementation(ROWS if by_rows else loaded_with)
    return "per_row"
