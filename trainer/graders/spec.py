"""Grader definitions (torch-free): what the API accepts and the trainer runs.

``string_check`` follows OpenAI's wire format; ``environment`` is ours and asks the scorer of a
reasoning-gym task.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TEMPLATE_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*\}\}")


class StrictModel(BaseModel):
    """Base of every spec: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class StringCheckGrader(StrictModel):
    """1.0 if ``input`` compares to ``reference``, else 0.0. Both are templates.

    ``eq``/``ne`` compare exactly; ``like`` asks whether ``reference`` occurs in ``input``; ``ilike`` does so
    without regard to case.
    """

    type: Literal["string_check"] = "string_check"
    name: str = Field(default="string_check", min_length=1, max_length=256)
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"] = "eq"


class EnvironmentGrader(StrictModel):
    """The own scorer of a reasoning-gym task, applied to an answer cut out of the response.

    The item must carry ``answer`` (and ``metadata`` where the task's scorer needs it).
    """

    type: Literal["environment"] = "environment"
    name: str = Field(default="environment", min_length=1, max_length=256)
    task: str = Field(description="A reasoning-gym task, e.g. chain_sum")
    parameters: dict[str, Any] = Field(default_factory=dict)
    extract: Literal["text", "last_number", "last_line", "answer_tag"] = Field(
        default="text",
        description="Which part of the response is the answer: all of it, its last number, its last "
        "non-empty line, or the text between <answer> tags",
    )


Grader = Annotated[StringCheckGrader | EnvironmentGrader, Field(discriminator="type")]


def template_variables(grader: StringCheckGrader | EnvironmentGrader) -> set[str]:
    """Dotted names that the grader reads, such as ``item.answer`` or ``sample.output_text``."""
    if isinstance(grader, EnvironmentGrader):
        return {"item.answer"}
    return set(TEMPLATE_VARIABLE.findall(grader.input)) | set(TEMPLATE_VARIABLE.findall(grader.reference))
