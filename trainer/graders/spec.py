"""Grader definitions (torch-free): what the API accepts and the trainer runs.

``string_check``, ``text_similarity``, ``score_model``, ``label_model``, ``python`` and ``multi`` follow
OpenAI's wire format, with further optional fields of ours; the other types are ours. What each does is in the
file of its name.
"""

import re
from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from trainer.graders.fields import (
    GraderFields,
    Name,
    OperatorsName,
    RemoteFields,
    ScaleFields,
    Template,
    Type,
)
from trainer.graders.fields import StrictModel as StrictModel
from trainer.graders.formula import NAME, parse_formula
from trainer.graders.judge_spec import CreativeWritingGrader, JudgeFields, LabelModelGrader, ScoreModelGrader
from trainer.graders.templates import variables

TextMetric = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "cosine",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


class StringCheckGrader(GraderFields):
    """1.0 if ``input`` compares to ``reference``, else 0.0. Both are templates.

    ``eq``/``ne`` compare exactly; ``like`` asks whether ``reference`` occurs in ``input``; ``ilike`` does so
    without regard to case.
    """

    type: Type[Literal["string_check"]] = "string_check"
    name: Name = "string_check"
    input: Template = Field(description="Text to compare: a template, such as {{sample.output_text}}")
    reference: Template = Field(description="Text to compare it with: a template, such as {{item.answer}}")
    operation: Literal["eq", "ne", "like", "ilike"] = Field(
        default="eq",
        description="eq: equal; ne: not equal; like: reference occurs in input; ilike: likewise, ignoring "
        "case",
    )


class EnvironmentGrader(GraderFields):
    """A reasoning-gym task's own scorer, applied to an answer extracted from the response.

    The item must have ``answer`` (and ``metadata`` if the task's scorer needs it).
    """

    type: Type[Literal["environment"]] = "environment"
    name: Name = "environment"
    task: str = Field(description="A reasoning-gym task, such as chain_sum")
    parameters: dict[str, object] = Field(
        default_factory=dict,
        description="Parameters for the task's scorer; default: the task's own",
    )
    extract: Literal["text", "last_number", "last_line", "answer_tag"] = Field(
        default="text",
        description="Part of the response that is the answer: all of it, its last number, its last "
        "non-empty line, or the text between <answer> tags",
    )
    timeout_seconds: float = Field(
        default=30, gt=0, le=300, description="Time limit per response, at most 300"
    )


class PythonGrader(ScaleFields):
    """``grade(sample, item)`` of a Python source, in a sandbox, with a separate process for each sample.

    ``sample`` has ``output_text``, ``output_json`` (None unless the response is JSON), ``choices`` and
    ``output_tools``, as hosted, and ``reasoning`` and ``full_text`` (``trainer.graders.thoughts``); it
    returns a float from 0 to 1, or within ``range``. The source may define ``answer(sample, item)``, too:
    the text that votes compare, or None if there is none.
    """

    type: Type[Literal["python"]] = "python"
    name: Name = "python"
    source: str = Field(
        max_length=256 << 10, description="Python that defines grade(sample, item), up to 256 KiB"
    )
    image_tag: str | None = Field(default=None, description="Ignored: there is only one image")
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="Limit per sample")
    memory_mb: int = Field(default=512, ge=64, le=8192, description="Address space per sample")

    @field_validator("source")
    @classmethod
    def _has_grade(cls, source: str) -> str:
        # Compiled in the sandbox alone: a parser of ours would be a stranger's to crash.
        if not re.search(r"^(?:async\s+)?def\s+grade\s*\(|^grade\s*[:=]", source, re.MULTILINE):
            raise ValueError("it does not define grade(sample, item) at its top level")
        return source

    @property
    def gives_answers(self) -> bool:
        """Whether the source says what a response's answer is."""
        return re.search(r"^def\s+answer\s*\(|^answer\s*[:=]", self.source, re.MULTILINE) is not None


class TextSimilarityGrader(JudgeFields):
    """How alike ``input`` and ``reference`` are, from 0 to 1.

    ``cosine`` asks an OpenAI-compatible endpoint for embeddings; the other metrics are computed here.
    """

    type: Type[Literal["text_similarity"]] = "text_similarity"
    name: Name = "text_similarity"
    input: Template = Field(description="Text to compare: a template, such as {{sample.output_text}}")
    reference: Template = Field(description="Text to compare it with: a template, such as {{item.answer}}")
    evaluation_metric: TextMetric = Field(
        description="Similarity measure; cosine compares embeddings, all others words"
    )
    model: str = Field(
        default="text-embedding-3-large",
        min_length=1,
        max_length=256,
        description="The embedding model for cosine",
    )


class MathVerifyGrader(GraderFields):
    """1.0 if the response's answer, boxed or its last expression, is mathematically ``reference``."""

    type: Type[Literal["math_verify"]] = "math_verify"
    name: Name = "math_verify"
    input: Template = Field(
        default="{{sample.output_text}}", description="Text to find the answer in: a template"
    )
    reference: Template = Field(
        default="{{item.answer}}", description="The right answer, in LaTeX or plain: a template"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=300, description="Limit per sample")


class HttpGrader(RemoteFields, ScaleFields):
    """The reward with which your own service answers a signed POST of item and response."""

    type: Type[Literal["http"]] = "http"
    name: Name = "http"
    url: str = Field(max_length=2048, description="URL to which item and response are posted")
    secret: OperatorsName = Field(description="Name of one of the operator's secrets, used to sign requests")


_Simple = (
    StringCheckGrader
    | TextSimilarityGrader
    | ScoreModelGrader
    | LabelModelGrader
    | PythonGrader
    | MathVerifyGrader
    | EnvironmentGrader
    | HttpGrader
    | CreativeWritingGrader
)
SimpleGrader = Annotated[_Simple, Field(discriminator="type")]


def _kind_of_graders(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "one" if isinstance(kind, str) else "named"


class MultiGrader(ScaleFields):
    """A formula over the scores of other graders, by their names, each on the scale of its own."""

    type: Type[Literal["multi"]] = "multi"
    name: Name = "multi"
    graders: Annotated[
        Annotated[dict[str, SimpleGrader], Field(min_length=1, max_length=32), Tag("named")]
        | Annotated[SimpleGrader, Tag("one")],
        Discriminator(_kind_of_graders),
    ] = Field(description="Up to 32 graders by name, or a single one")
    calculate_output: str = Field(
        max_length=2000,
        description="Numbers, names of graders, + - * / ^, parentheses, and the functions min, max, abs, "
        "floor, ceil, exp, sqrt, log, clamp",
    )

    @field_validator("graders")
    @classmethod
    def _names(
        cls, value: "dict[str, SimpleGrader] | SimpleGrader"
    ) -> "dict[str, SimpleGrader] | SimpleGrader":
        for name in value if isinstance(value, dict) else [value.name]:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name[:80]!r} cannot be used in a formula; names have letters, digits and underscores"
                )
        return value

    @field_validator("calculate_output")
    @classmethod
    def _parses(cls, value: str, info: ValidationInfo) -> str:
        if "graders" in info.data:
            given = info.data["graders"]
            parse_formula(value, set(given) if isinstance(given, dict) else {given.name})
        return value

    @property
    def named(self) -> dict[str, SimpleGrader]:
        return self.graders if isinstance(self.graders, dict) else {self.graders.name: self.graders}


Grader = Annotated[_Simple | MultiGrader, Field(discriminator="type")]
GRADER_TYPES: tuple[str, ...] = tuple(
    member.model_fields["type"].default for member in get_args(get_args(Grader)[0])
)


def template_variables(grader: Grader) -> set[str]:
    """Dotted names that the grader reads, such as ``item.answer`` or ``sample.output_text``.

    ``python`` and ``http`` get the whole item, and what they read of it is theirs to know.
    """
    match grader:
        case MultiGrader():
            return set().union(*(template_variables(one) for one in grader.named.values()))
        case EnvironmentGrader():
            return {"item.answer"}
        case StringCheckGrader() | TextSimilarityGrader() | MathVerifyGrader():
            return variables(grader.input) | variables(grader.reference)
        case ScoreModelGrader() | LabelModelGrader():
            return set().union(*(variables(message.template) for message in grader.input))
        case CreativeWritingGrader():
            return variables(grader.input) | variables(grader.prompt)
        case _:
            return set()
