"""The model's generation config, made fit for a run: it can be saved, and names every token that ends a turn.

It is a part of each checkpoint, and a server stops where it says.
"""

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from trainer.errors import InvalidSpec
from trainer.spec.turn_end import turn_end

#: Options that only sampling reads, and what transformers lets stand beside ``do_sample`` false.
_SAMPLING = {
    "temperature": (None, 1.0),
    "top_p": (None, 1.0),
    "top_k": (None, 50),
    "min_p": (None,),
    "top_h": (None,),
    "typical_p": (None, 1.0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
}
_BEAMS = {"early_stopping": (None, False), "length_penalty": (None, 1.0)}


def fit_generation_config(
    model: Any, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, object]
) -> list[str]:
    """Change ``model.generation_config`` as above; returns what the user should know.

    ``variables`` are those of the chat template. Raises InvalidSpec where no token ends a response.
    """
    notes = [*_make_savable(model), *_name_the_turn_end(model, tokenizer, variables)]
    if not any(stop < model.get_output_embeddings().weight.shape[0] for stop in stop_ids(model, tokenizer)):
        raise InvalidSpec(
            "this model has no token that ends a response: no eos_token in its tokenizer, no eos_token_id "
            "in its generation config, and no special token at the end of an assistant's turn in its chat "
            "template, so every response would run to its limit. Set eos_token in tokenizer_config.json",
            "model.path",
        )
    return notes


def stop_ids(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """The tokens that the generation config and the tokenizer say end a response."""
    ids: set[int] = set()
    for source in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        ids.update(source if isinstance(source, list) else [source] if source is not None else [])
    return frozenset(ids)


def _name_the_turn_end(
    model: Any, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, object]
) -> list[str]:
    tokens = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    special = {name: str(text) for name, text in tokenizer.special_tokens_map.items()}
    end = turn_end(tokenizer.get_chat_template(), tokens, special=special, variables=variables)
    known = stop_ids(model, tokenizer)
    if end is None or end in known:
        return []
    model.generation_config.eos_token_id = sorted(known | {end})
    named = ", ".join(repr(tokenizer.convert_ids_to_tokens(stop)) for stop in sorted(known)) or "no token"
    return [
        f"The model names {named} as the end of a text, but its chat template ends an assistant's turn "
        f"with {tokenizer.convert_ids_to_tokens(end)!r}: responses also end there, and checkpoints "
        "include it."
    ]


def _make_savable(model: PreTrainedModel) -> list[str]:
    """transformers loads configs that contradict themselves, and refuses to save them."""
    config = model.generation_config
    idle: dict[str, tuple[object, ...]] = {}
    if config.do_sample is not True:
        idle |= _SAMPLING
    if config.num_beams in (None, 1):
        idle |= _BEAMS
    unset = {name: value for name, fits in idle.items() if (value := getattr(config, name, None)) not in fits}
    for name in unset:
        setattr(config, name, None)
    notes = []
    if unset:
        options = ", ".join(f"{name} {value}" for name, value in unset.items())
        notes.append(
            f"The model's generation_config has {options}, which have no effect without do_sample or "
            "beams and cannot be saved with that: checkpoints leave them out."
        )
    try:
        config.validate(strict=True)
    except ValueError as error:
        ends = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
        model.generation_config = GenerationConfig(**ends)
        notes.append(
            f"The model's generation_config cannot be saved ({error}): checkpoints keep only its token ids."
        )
    return notes
