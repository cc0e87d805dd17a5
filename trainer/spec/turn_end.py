"""The token that ends an assistant's turn, as the model's chat template has it. Torch-free.

A tokenizer's eos token may be another one: base models whose template ends turns with ``<|im_end|>`` often
name ``<|endoftext|>``. A model that learned turns from the template never emits that token, so a response
would continue to its limit, inventing further turns. The trainer and the inference worker both use this
module, so an answer ends where a training response ends.
"""

import datetime
import json
from collections.abc import Mapping
from typing import Any, cast

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MARK = "xyzzy"


def turn_end(
    template: str,
    tokens: Mapping[str, int],
    *,
    special: Mapping[str, str] | None = None,
    variables: Mapping[str, object] | None = None,
) -> int | None:
    """The id of the first of ``tokens`` that follows what an assistant says; None where none does.

    Args:
        tokens: the tokenizer's added tokens with their ids.
        special: texts of ``bos_token`` and the like, which templates read.
        variables: others that the template is given.
    """
    tail = _after_the_assistant(template, dict(special or {}) | dict(variables or {}))
    found = [(tail.find(text), -len(text), number) for text, number in tokens.items() if text in tail]
    return min(found)[2] if found else None


def _after_the_assistant(template: str, variables: Mapping[str, object]) -> str:
    """What the template writes behind an assistant's last message; empty where it has no such message."""
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _MARK}]
    try:
        compiled = _environment().from_string(template)
        text = compiled.render(messages=messages, add_generation_prompt=False, **variables)
    except (TemplateError, TypeError, ValueError, AttributeError):
        return ""
    return text.rpartition(_MARK)[2] if _MARK in text else ""


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers renders chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    filters = cast("dict[str, object]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters["tojson"] = _json
    names = cast("dict[str, object]", environment.globals)  # pyright: ignore[reportUnknownMemberType]
    names |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _json(value: object, **options: Any) -> str:
    options = {"ensure_ascii": False, **options}
    return json.dumps(value, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)


class _Generation(Extension):
    """``{% generation %}``, by which templates mark what an assistant said; here its content alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))
