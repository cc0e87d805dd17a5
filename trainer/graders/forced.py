"""Decoding held to a form: which tokens of a vocabulary may come next. Torch-free, by llguidance.

A form is a grammar over bytes, so it holds for any tokenizer; a token is allowed where all of its bytes may
follow. Where the form is complete, the tokens that end a response are allowed alone.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from trainer.graders.response_format import ResponseFormat

#: JSON on one line, with a space or none: with any whitespace an answer could go on with that for ever.
_COMPACT: Any = {"whitespace_flexible": False, "item_separator": ",[ ]?", "key_separator": ":[ ]?"}
_SHOWN = 300


class BadForm(ValueError):
    """The form cannot be forced: a sentence that says why."""


class Matcher:
    """A response on its way: what may follow, token by token."""

    def __init__(self, matcher: LLMatcher):
        self._matcher = matcher

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next; shape (V,), V the size of the vocabulary. Raises BadForm."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return np.unpackbits(packed, bitorder="little").astype(np.bool_)

    def accept(self, token: int) -> None:
        """``token`` was chosen. Raises BadForm where it is not allowed."""
        self._matcher.consume_token(token)
        self._check()

    def copy(self) -> "Matcher":
        """The same response so far, to go on with by itself."""
        return Matcher(self._matcher.deep_copy())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadForm(_one_line(self._matcher.get_error()))


class Vocabulary:
    """The tokens of a model, as bytes.

    Args:
        tokenizer: the JSON text of a tokenizer of the tokenizers library.
        stop_ids: tokens that end a response.
        size: of the model's logits; ids beyond the tokenizer's are never allowed.
    """

    def __init__(self, tokenizer: str, stop_ids: Sequence[int], size: int):
        if not stop_ids:
            raise BadForm("the model does not name a token that ends an answer")
        try:
            self._tokens = LLTokenizer(tokenizer, n_vocab=size, eos_token=list(stop_ids))
        except ValueError as error:
            raise BadForm(f"its tokenizer cannot be read: {_one_line(str(error))}") from None

    def bytes_of(self, token: int) -> bytes:
        """What the token writes; a special one writes its name."""
        return self._tokens.decode_bytes([token])

    def is_special(self, token: int) -> bool:
        """Whether the token is a mark that no text is ever read as."""
        return self._tokens.is_special_token(token)

    def matcher(self, grammar: str) -> Matcher:
        """The beginning of a response. Raises BadForm where the grammar cannot be compiled."""
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise BadForm(_one_line(matcher.get_error()))
        return Matcher(matcher)


def schema_of(form: ResponseFormat) -> dict[str, object]:
    """The schema of a form that restricts, and how its JSON is written, as llguidance is told it."""
    return _compact({"type": "object"} if form.json_schema is None else form.json_schema.schema_)


def grammar_of(form: ResponseFormat) -> str:
    """The grammar of a form that restricts: JSON of its schema, or any JSON object."""
    return LLMatcher.grammar_from_json_schema(json.dumps(schema_of(form)))


def check_form(form: ResponseFormat) -> None:
    """Raises BadForm where no response can be held to a form that restricts, whatever the tokenizer."""
    if problem := LLMatcher.validate_grammar(grammar_of(form)):
        raise BadForm(_one_line(problem))


def lark_json(schema: dict[str, object]) -> str:
    """A schema as a part of a grammar in Lark's form."""
    return f"%json {json.dumps(_compact(schema))}"


def lark_grammar(text: str) -> str:
    """A grammar in Lark's form."""
    return LLMatcher.grammar_from_lark(text)


def _compact(schema: dict[str, object]) -> dict[str, object]:
    return {**schema, "x-guidance": _COMPACT}


def _one_line(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
