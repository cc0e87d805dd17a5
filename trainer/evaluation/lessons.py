"""Lessons from JSONL files: rows of token ids that are learnt, in each mode that they train in."""

from collections.abc import Sequence

from trainer.data.items import read_rows
from trainer.errors import InvalidSpec
from trainer.evaluation.prompts import LISTED, NAMED, Dropped
from trainer.model.policy import Policy
from trainer.model.rows import Row
from trainer.model.turns import Unclear, learnt_rows
from trainer.spec.data import Data
from trainer.spec.modes import Mode
from trainer.spec.rows import Lesson, Preference, read_lesson, read_preference
from trainer.spec.taught import Dpo, Supervised, Taught
from trainer.steps.teaching import Example


def load_examples(
    policy: Policy, data: Data, spec: Supervised | Dpo, param: str
) -> tuple[list[Example], Dropped | None]:
    """The examples that fit, and what was left out where ``overlong_rows`` is "drop".

    Raises InvalidSpec naming the line at fault, or those that are too long.
    """
    assert data.type == "jsonl", "which the spec has checked"
    examples: list[Example] = []
    read = read_lesson if isinstance(spec, Supervised) else read_preference
    for number, _, told in read_rows(data, param, read):
        try:
            rows = _preference(policy, told) if isinstance(told, Preference) else _lesson(policy, told, spec)
        except Unclear as error:
            raise InvalidSpec(f"line {number}: {error}", param) from error
        examples.append(Example(number, rows))
    _check_vocabulary(policy, examples)
    return fit_examples(examples, policy.context_length, spec, param)


def _lesson(policy: Policy, lesson: Lesson, spec: Taught) -> dict[Mode, list[Row]]:
    both = isinstance(spec, Supervised) and spec.modes == "both"
    modes = tuple(Mode) if both else (Mode.NORMAL,)
    return {mode: learnt_rows(policy, lesson.messages, lesson.learnt, mode, lesson.tools) for mode in modes}


def _preference(policy: Policy, told: Preference) -> dict[Mode, list[Row]]:
    """The preferred answer's row and the other's, which share what they answer."""
    learnt = [*[False] * len(told.messages), True]
    (preferred,), (other,) = (
        learnt_rows(policy, [*told.messages, answer], learnt, Mode.NORMAL, told.tools)
        for answer in (told.preferred, told.other)
    )
    if preferred.response_ids == other.response_ids:
        raise Unclear("the preferred and the non-preferred output have the same tokens: nothing is preferred")
    if preferred.context_ids == other.context_ids:
        other = Row(preferred.context_ids, other.response_ids, other.trained)
    return {Mode.NORMAL: [preferred, other]}


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
                f"line {example.line} has the token {policy.tokenizer.convert_ids_to_tokens(highest)!r} "
                f"with id {highest}, but the model has embeddings of {vocabulary} tokens: the tokenizer "
                "belongs to another model",
                "model.path",
            )
