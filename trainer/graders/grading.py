"""Graders in action: a response's text in, a reward in [0, 1] out. One function a grader definition."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.spec import TEMPLATE_VARIABLE, EnvironmentGrader, Grader, StringCheckGrader

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Grade:
    """A reward, or the reason why there is none: an error is never silently a zero."""

    reward: float | None
    scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None


GradeFunction = Callable[[dict[str, Any], str], Grade]


def build_grader(spec: Grader) -> GradeFunction:
    """A function of (item, response text). Raises InvalidSpec when the definition cannot work."""
    if isinstance(spec, StringCheckGrader):
        return _string_check(spec)
    return _environment(spec)


def _string_check(spec: StringCheckGrader) -> GradeFunction:
    compare: dict[str, Callable[[str, str], bool]] = {
        "eq": lambda text, reference: text == reference,
        "ne": lambda text, reference: text != reference,
        "like": lambda text, reference: reference in text,
        "ilike": lambda text, reference: reference.casefold() in text.casefold(),
    }
    matches = compare[spec.operation]

    def grade(item: dict[str, Any], text: str) -> Grade:
        try:
            sample = render(spec.input, item, text), render(spec.reference, item, text)
        except KeyError as error:
            return Grade(None, error=f"the template variable {error.args[0]} has no value")
        reward = float(matches(*sample))
        return Grade(reward, {spec.name: reward})

    return grade


def render(template: str, item: dict[str, Any], output_text: str) -> str:
    """Fill ``{{item.x}}``, ``{{sample.output_text}}`` and ``{{sample.output_json.x}}``.

    Raises KeyError naming the variable that has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        root, *path = name.split(".")
        if root == "item":
            value: Any = item
        elif root == "sample" and path and path[0] == "output_text":
            value, path = output_text, path[1:]
        elif root == "sample" and path and path[0] == "output_json":
            try:
                value, path = json.loads(output_text), path[1:]
            except ValueError:
                raise KeyError(name) from None
        else:
            raise KeyError(name)
        for key in path:
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                raise KeyError(name)
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return TEMPLATE_VARIABLE.sub(value_of, template)


def _environment(spec: EnvironmentGrader) -> GradeFunction:
    import reasoning_gym

    try:
        task = reasoning_gym.create_dataset(spec.task, **{"size": 1, "seed": 0, **spec.parameters})
    except (ValueError, TypeError, AssertionError) as error:
        raise InvalidSpec(f"reasoning-gym task {spec.task!r}: {error}", "grader") from error

    def grade(item: dict[str, Any], text: str) -> Grade:
        entry = {"question": "", "metadata": {}, **item}
        try:
            reward = float(task.score_answer(extract_answer(text, spec.extract), entry))
        except Exception as error:
            return Grade(None, error=f"the scorer of {spec.task} failed: {type(error).__name__}: {error}")
        return Grade(min(max(reward, 0.0), 1.0), {spec.name: reward})

    return grade


def extract_answer(text: str, extract: str) -> str | None:
    """The part of a response that is its answer, or None when it has none."""
    if extract == "last_number":
        found = NUMBER.findall(text)
        return found[-1].replace(",", "") if found else None
    if extract == "last_line":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else None
    if extract == "answer_tag":
        tags = ANSWER_TAG.findall(text)
        return tags[-1].strip() if tags else None
    return text.strip()
