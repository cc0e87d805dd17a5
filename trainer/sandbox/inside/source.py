"""``grade(sample, item)`` of a stranger's Python source."""

import ast
import contextlib
import importlib
import importlib.util
import json
import math
import sys
import traceback
from collections.abc import Iterator
from types import CodeType
from typing import Any, TypedDict

from .supervisor import Prepare, Refused

MAX_DETAILS = 2000
FILENAME = "grader.py"


class Setup(TypedDict):
    """A grader's source, and the packages that the host offers it."""

    source: str
    offered: list[str]


def load(setup: Setup) -> Prepare:
    """Compile the source and import, for all gradings, the libraries that it imports at its top."""
    try:
        tree = ast.parse(setup["source"], FILENAME)
        code = compile(tree, FILENAME, "exec")
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from None
    if missing := sorted({name for name in _needed(tree) if not _is_there(name)}):
        raise Refused(
            f"it imports {', '.join(missing)}, which a sandbox does not have. It has the standard library "
            f"and {', '.join(setup['offered'])}"
        )
    for node in tree.body:
        for name in _imported(node):
            with contextlib.suppress(Exception):  # the grading will say it
                importlib.import_module(name)
    return lambda: lambda question: _grade(code, question)


def _needed(node: ast.AST) -> Iterator[str]:
    """Top-level packages of all imports, but those that the source tries and can do without."""
    if isinstance(node, ast.Try):
        return
    yield from (name.partition(".")[0] for name in _imported(node))
    for child in ast.iter_child_nodes(node):
        yield from _needed(child)


def _is_there(package: str) -> bool:
    """Without importing it."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def _grade(code: CodeType, question: bytes) -> dict[str, object]:
    """Run the source and its function; what came out of it."""
    message = json.loads(question)
    namespace: dict[str, Any] = {"__name__": "grader", "__file__": FILENAME}
    try:
        exec(code, namespace)
        value = namespace["grade"](message["sample"], message["item"])
    except BaseException as error:
        return {"error": _describe(error)}
    result = _result(value)
    if "score" in result and callable(namespace.get("answer")):
        try:
            form = namespace["answer"](message["sample"], message["item"])
        except BaseException as error:
            return {"error": f"answer(): {_describe(error)}"}
        if form is not None and not isinstance(form, str | int | float | bool):
            return {"error": f"answer() returned a {type(form).__name__}; it should return a text, or None"}
        result["answer"] = None if form is None else str(form)[:MAX_DETAILS]
    return result


def _result(value: Any) -> dict[str, object]:
    kind = type(value).__name__
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return {"error": f"grade() returned a {kind}; it should return a float"}
    try:
        number = float(value)
    except BaseException as error:
        return {"error": f"grade() returned a {kind} that is not a float: {_describe(error)}"}
    if not math.isfinite(number):
        return {"error": f"grade() returned {number}; it should return a finite number"}
    return {"score": number}


def _describe(error: BaseException) -> str:
    """The error's name and text, and the line of the source."""
    text = f"{type(error).__name__}: {str(error)[:MAX_DETAILS]}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILENAME
    ]
    return f"{text} (line {lines[-1]})" if lines else text
