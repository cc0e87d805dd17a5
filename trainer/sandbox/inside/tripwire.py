"""Notices when a library is about to run text of a response as Python, and keeps it from doing so.

Library scorers share a process, which is fast, and what ran there could spoil the scores of others. So the
interpreter asks this hook before it runs a piece of code; the sample is then scored in a process of its own.
Code that names nothing but numbers and elementary functions has no means to change anything and may run:
arithmetic is what honest answers are made of.
"""

import string
import sys
from types import CodeType

_HARMLESS = {
    # What sympy's parser makes of numbers and symbols, and the text by which it fills its namespace.
    *("Integer", "Float", "Rational", "Symbol", "sympy", "pi", "E", "C", "I", *string.ascii_lowercase),
    *("sqrt", "exp", "log", "ln", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
}
_EVENTS = frozenset({"exec", "marshal.loads", "pickle.find_class"})


class Evaluation(BaseException):
    """Code that may not run in this process. Not an Exception, so that fewer handlers swallow it."""


class Tripwire:
    """Set for good in the process that makes it; one question at a time."""

    def __init__(self) -> None:
        self._watching = False
        self._touched = False
        sys.addaudithook(self._hook)

    def watch(self) -> None:
        """From here on."""
        self._watching, self._touched = True, False

    def touched(self) -> bool:
        """Stop watching. Whether code was kept from running since ``watch``: a result is void then."""
        self._watching = False
        return self._touched

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._watching and event in _EVENTS and not (event == "exec" and _is_harmless(arguments[0])):
            self._touched = True
            raise Evaluation(event)


def _is_harmless(code: object) -> bool:
    return (
        isinstance(code, CodeType)
        and _HARMLESS.issuperset(code.co_names)
        and not any(isinstance(one, CodeType) for one in code.co_consts)
    )
