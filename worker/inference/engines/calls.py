"""Calls of tools: the grammar that an answer is held to where it must call, and how calls are read out of it.

Models whose chat template shows ``<tool_call>`` are held to the form that they were trained on, others to the
JSON object in it alone. Torch-free.
"""

import json
from collections.abc import Sequence

from app.core.strict_json import JsonObject
from trainer.graders.forced import lark_grammar, lark_json
from trainer.graders.tool_calls import CLOSE, OPEN, called_function

Tool = JsonObject
Choice = str | JsonObject | None


class BadChoice(ValueError):
    """``tool_choice`` cannot be followed: a sentence that says why."""


def marks_calls(template: str | None) -> bool:
    """Whether models of this chat template write calls as JSON between ``<tool_call>`` and its end."""
    return template is not None and OPEN in template and "<function=" not in template


def must_call(choice: Choice) -> bool:
    """Whether an answer is to be a call, and nothing else."""
    return choice == "required" or isinstance(choice, dict)


def grammar_of_calls(
    tools: Sequence[Tool], choice: Choice, *, marked: bool, several: bool, special: Sequence[str] = ()
) -> str:
    """The grammar of answers that call ``choice``. Raises BadChoice.

    Args:
        marked: between ``<tool_call>`` and ``</tool_call>``.
        several: more than one call may follow another; only where they are ``marked``.
        special: of the two marks those that are tokens which no text is read as.
    """
    functions = [tool["function"] for tool in tools]
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        functions = [one for one in functions if one["name"] == name]
        if not functions:
            known = ", ".join(tool["function"]["name"] for tool in tools)
            raise BadChoice(f"tool_choice names {name!r}, but the tools are: {known}")
    first, last = (mark if mark in special else json.dumps(mark) for mark in (OPEN, CLOSE))
    one = " | ".join(f"call_{number}" for number in range(len(functions)))
    again = ' ("\\n" call)*' if marked and several and not isinstance(choice, dict) else ""
    rules = [f"start: call{again}", f'call: {first} "\\n" one "\\n" {last}' if marked else "call: one"]
    rules.append(f"one: {one}")
    for number, function in enumerate(functions):
        head = json.dumps(f'{{"name": "{function["name"]}", "arguments": ')
        rules.append(f'call_{number}: {head} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: {lark_json(function['parameters'])}")
    return lark_grammar("\n".join(rules))


class CallReader:
    """Tells an answer's text from its calls as it comes.

    ``marked``: calls stand between their marks, and what is around them is text; else all of it is a call.
    What is not a call after all, or is cut off, stays text.
    """

    def __init__(self, marked: bool):
        self._marked = marked
        self._held = ""
        self._inside = not marked

    def feed(self, text: str) -> list[str | dict[str, object]]:
        """The text, and the functions called, that are complete with ``text``."""
        self._held += text
        found: list[str | dict[str, object]] = []
        while self._marked:
            if not self._inside:
                at = self._held.find(OPEN)
                if at < 0:
                    keep = _begun(self._held)
                    found.append(self._held[: len(self._held) - keep])
                    self._held = self._held[len(self._held) - keep :]
                    break
                found.append(self._held[:at])
                self._held, self._inside = self._held[at:], True
            end = self._held.find(CLOSE)
            if end < 0:
                break
            call, self._held = self._held[: end + len(CLOSE)], self._held[end + len(CLOSE) :]
            found.append(called_function(call[len(OPEN) : end]) or call)
            self._inside = False
        return [one for one in found if one]

    def end(self) -> list[str | dict[str, object]]:
        """What is left when nothing follows."""
        held, self._held = self._held, ""
        function = None if self._marked else called_function(held)
        return [function or held] if held else []


def _begun(text: str) -> int:
    """How many characters at the end of ``text`` may begin a call."""
    return next((n for n in range(min(len(OPEN) - 1, len(text)), 0, -1) if text.endswith(OPEN[:n])), 0)
