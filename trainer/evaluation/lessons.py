"""Lessons from JSONL files: rows of token ids that are learnt, in each mode that they train in."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import InvalidSpec
from trainer.evaluation.prompts import LISTED, NAMED, Dropped
from trainer.model.policy import Policy
from trainer.model.rows import Row
from trainer.model.turns import Unclear, learnt_rows
from trainer.spec.data import Data
from trainer.spec.messages import BadMessages
from trainer.spec.modes import Mode
from trainer.spec.rows import read_lesson, read_preference
from trainer.spec.taught import Dpo, Supervised, Taught
from trainer.steps.teaching import Example


def load_examples(
    policy: Policy,
    data: Data,
    spec: Supervised | Dpo,
    param: str,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple[list[Example], Dropped | None]:
    """The examples that fit, and what was left out where ``overlong_rows`` is "drop".

    Raises InvalidSpec naming the line at fault, or those that are too long.
    """
    examples: list[Example] = []
    for number, row in _lines(data, param):
        try:
            rows = _lesson(policy, row, spec) if isinstance(spec, Supervised) else _preference(policy, row)
        except (BadMessages, Unclear) as error:
            raise InvalidSpec(f"line {number}: {error}", param) from error
        examples.append(Example(number, rows))
        if number % 64 == 0:
            on_progress()
    if not examples:
        raise InvalidSpec(f"{param} has no rows", param)
    _check_vocabulary(policy, examples)
    return fit_examples(examples, policy.context_length, spec, param)


def _lesson(policy: Policy, row: dict[str, Any], spec: Supervised) -> dict[Mode, list[Row]]:
    lesson = read_lesson(row)
    modes = tuple(Mode) if spec.modes == "both" else (Mode.NORMAL,)
    return {mode: learnt_rows(policy, lesson.messages, lesson.learnt, mode, lesson.tools) for mode in modes}


def _preference(policy: Policy, row: dict[str, Any]) -> dict[Mode, list[Row]]:
    """The preferred answer's row and the other's, which share what they answer."""
    told = read_preference(row)
    learnt = [*[False] * len(told.messages), True]
    (preferred,), (other,) = (
        learnt_rows(policy, [*told.messages, answer], learnt, Mode.NORMAL, told.tools)
        for answer in (told.preferred, told.other)
    )
    if preferred.response_ids == other.response_ids:
        raise Unclear("the preferred output and the other are the same tokens: nothing is preferred")
    if preferred.context_ids == other.context_ids:
        other = Row(preferred.context_ids, other.response_ids, other.trained)
    return {Mode.NORMAL: [preferred, other]}


def _lines(data: Data, param: str) -> Iterator[tuple[int, dict[str, Any]]]:
    assert data.type == "jsonl", "which the spec has checked"
    path = Path(data.path)
    if not path.is_file():
        raise InvalidSpec(f"{data.path} does not exist", f"{param}.path")
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, dict(json.loads(line))
            except (ValueError, TypeError) as error:
                message = f"line {number} of {path.name} is not a JSON object: {error}"
                raise InvalidSpec(message, f"{param}.path") from error


def fit_examples(
    examples: Sequence[Example], context: int | None, spec: Taught, param: str
) -> tuple[list[Example], Dropped | None]:
    """The examples that have room, and what was left out. Raises InvalidSpec as ``overlong_rows`` says."""
    most, why = spec.max_tokens, "max_tokens"
    if context is not None and (most is None or context < most):
        most, why = context, "the model's context"
    kept = [one for one in examples if most is None or one.longest <= most]
    if len(kept) == len(examples):
        return kept, None
    assert most is not None
    long = [one for one in examples if one.longest > most]
    named = "; ".join(f"line {one.line} ({one.longest:,} tokens)" for one in long[:NAMED])
    what = (
        f"{len(long):,} of {len(examples):,} rows of {param} have more than {most:,} tokens, {why}: {named}"
        + ("; …" if len(long) > NAMED else "")
    )
    if spec.overlong_rows == "fail":
        raise InvalidSpec(
            f"{what}. Shorten them, or set overlong_rows to 'drop' to train without them", "overlong_rows"
        )
    if not kept:
        raise InvalidSpec(f"{what}. None is left", param)
    lines = [one.line for one in long[:LISTED]]
    told = {"param": param, "dropped": len(long), "of": len(examples), "lines": lines, "room": most}
    return kept, Dropped(f"Left out: {what}.", {"overlong_rows": told})


def _check_vocabulary(policy: Policy, examples: Sequence[Example]) -> None:
    vocabulary = policy.output_VD.shape[0]
    for example in examples:
        highest = max(
            max(*row.context_ids, *row.response_ids) for rows in example.rows.values() for row in rows
        )
        if highest >= vocabulary:
            raise InvalidSpec(
                f"line {example.line} has the token {policy.tokenizer.convert_ids_to_tokens(highest)!r} with "
                f"id {highest}, but the model has embeddings of {vocabulary} tokens: its tokenizer is "
                "another model's",
                "model.path",
            )
