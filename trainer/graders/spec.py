"""Grader definitions (torch-free): what the API accepts and the trainer runs.

``string_check``, ``text_similarity``, ``score_model``, ``python`` and ``multi`` follow OpenAI's wire format,
with further optional fields of ours; the other types are ours. What each does is in the file of its name.
"""

import re
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from trainer.graders.formula import NAME, parse_formula
from trainer.graders.templates import template_problem, variables


class StrictModel(BaseModel):
    """Base of every spec: unknown keys, values of another type, NaN and Infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _checked_template(template: str) -> str:
    if problem := template_problem(template):
        raise ValueError(problem)
    return template


Template = Annotated[str, Field(max_length=1 << 20), AfterValidator(_checked_template)]
Name = Annotated[
    str,
    Field(
        min_length=1, max_length=256, description="What events and errors call it, and a formula reads it by"
    ),
]
T = TypeVar("T")
Type = Annotated[T, Field(description="Chooses the grader; each type has fields of its own")]
OperatorsName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""A name that the operator has given to an endpoint or a secret; never the secret itself."""


class GraderFields(StrictModel):
    """What every grader has."""

    name: Name
    pass_threshold: float | None = Field(
        default=None,
        description="Taken and shown, as Azure and hosted evals do; the reward stays what the grader gives, "
        "and an event says so",
    )


class ScaleFields(GraderFields):
    """Of graders whose numbers somebody else's code gives."""

    range: list[float] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="The lowest and the highest score, which become the rewards 0 and 1, such as [0, 5] of a "
        "rubric; default [0, 1]",
    )

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not (value[0] < value[1] and abs(value[0]) < 1e9 and abs(value[1]) < 1e9):
            raise ValueError(f"the range {value} should be two numbers, the lower one first")
        return value

    @property
    def bounds(self) -> tuple[float, float]:
        low, high = self.range or (0.0, 1.0)
        return low, high


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
    input: Template = Field(description="What is compared: a template, such as {{sample.output_text}}")
    reference: Template = Field(description="What it is compared with: a template, such as {{item.answer}}")
    operation: Literal["eq", "ne", "like", "ilike"] = Field(
        default="eq",
        description="eq: equal; ne: not equal; like: reference occurs in input; ilike: likewise, without "
        "regard to case",
    )


class EnvironmentGrader(GraderFields):
    """The own scorer of a reasoning-gym task, applied to an answer cut out of the response.

    The item must carry ``answer`` (and ``metadata`` where the task's scorer needs it).
    """

    type: Type[Literal["environment"]] = "environment"
    name: Name = "environment"
    task: str = Field(description="A reasoning-gym task, e.g. chain_sum")
    parameters: dict[str, object] = Field(
        default_factory=dict,
        description="Parameters of the task that its scorer reads; default the task's own",
    )
    extract: Literal["text", "last_number", "last_line", "answer_tag"] = Field(
        default="text",
        description="Which part of the response is the answer: all of it, its last number, its last "
        "non-empty line, or the text between <answer> tags",
    )
    timeout_seconds: float = Field(default=30, gt=0, le=300, description="For each response, 300 at most")


class PythonGrader(ScaleFields):
    """``grade(sample, item)`` of a Python source, in a sandbox, a process of its own for each sample.

    ``sample`` has ``output_text``, ``output_json`` (None unless the response is JSON), ``choices`` and
    ``output_tools``, as hosted, and ``reasoning`` and ``full_text`` (``trainer.graders.thoughts``); it
    returns a float from 0 to 1, or within ``range``. The source may define ``answer(sample, item)``, too:
    what votes compare, a text, or None for none.
    """

    type: Type[Literal["python"]] = "python"
    name: Name = "python"
    source: str = Field(
        max_length=256 << 10, description="Python that defines grade(sample, item), up to 256 KiB"
    )
    image_tag: str | None = Field(default=None, description="Has no effect here")
    timeout_seconds: float = Field(default=10, gt=0, le=120, description="For each sample")
    memory_mb: int = Field(default=512, ge=64, le=8192, description="Address space for each sample")

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


class RemoteFields(GraderFields):
    """How a grader reaches an endpoint. The endpoint's key is the operator's and not in here."""

    concurrency: int = Field(default=8, ge=1, le=64, description="Requests under way at a time")
    timeout_seconds: float = Field(default=60, gt=0, le=600, description="For one try")
    max_retries: int = Field(
        default=3, ge=0, le=10, description="Further tries after a failed one, 0 to 10, with growing pauses"
    )


class JudgeFields(RemoteFields):
    """Where a model answers, by OpenAI's API."""

    model: str = Field(
        min_length=1, max_length=256, description="The judge, by the name that its endpoint has for it"
    )
    endpoint: OperatorsName | None = Field(
        default=None, description="One of the operator's endpoints, by name; default: the one named default"
    )
    base_url: str | None = Field(
        default=None,
        max_length=2048,
        description="An endpoint without a key, in place of one of the operator's, e.g. https://host/v1",
    )

    @model_validator(mode="after")
    def _one_endpoint(self) -> "JudgeFields":
        if self.endpoint is not None and self.base_url is not None:
            raise ValueError("both endpoint and base_url are given: give one of them")
        return self


class JudgeText(StrictModel):
    """A piece of a message."""

    type: Literal["input_text", "output_text"] = Field(
        description="input_text and output_text mean the same here"
    )
    text: Template = Field(description="What is said, with {{item.…}} and {{sample.…}} filled in")


def _kind_of_content(value: object) -> str:
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "part"


OnePart = Annotated[
    Annotated[Template, Tag("text")] | Annotated[JudgeText, Tag("part")], Discriminator(_kind_of_content)
]
Content = Annotated[
    Annotated[Template, Tag("text")]
    | Annotated[JudgeText, Tag("part")]
    | Annotated[list[OnePart], Field(min_length=1), Tag("list")],
    Discriminator(_kind_of_content),
]


class JudgeMessage(StrictModel):
    """A message to a judge; text alone, with templates."""

    role: Literal["user", "assistant", "system", "developer"] = Field(description="Who speaks")
    content: Content = Field(description="A template, or a list of texts that are joined by newlines")
    type: Literal["message"] | None = Field(default=None, description="May say message, and changes nothing")

    @property
    def template(self) -> str:
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class SamplingParams(StrictModel):
    """How the judge answers."""

    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0 is greedy; default that of the endpoint"
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample among the likeliest tokens that together have this probability; default that of "
        "the endpoint",
    )
    seed: int | None = Field(
        default=None, ge=-(2**63), lt=2**63, description="For answers that can be had again; default none"
    )
    max_completions_tokens: int | None = Field(
        default=None,
        ge=1,
        lt=2**31,
        description="Most tokens of the judge's answer; default that of the endpoint",
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How long a judge that thinks may think; default that of the endpoint"
    )


class TextSimilarityGrader(JudgeFields):
    """How alike ``input`` and ``reference`` are, from 0 to 1.

    ``cosine`` asks an OpenAI-compatible endpoint for embeddings; the other metrics are computed here.
    """

    type: Type[Literal["text_similarity"]] = "text_similarity"
    name: Name = "text_similarity"
    input: Template = Field(description="What is compared: a template, such as {{sample.output_text}}")
    reference: Template = Field(description="What it is compared with: a template, such as {{item.answer}}")
    evaluation_metric: TextMetric = Field(
        description="How likeness is measured; cosine of embeddings, all others of words"
    )
    model: str = Field(
        default="text-embedding-3-large",
        min_length=1,
        max_length=256,
        description="The embedding model of cosine",
    )


class ScoreModelGrader(JudgeFields, ScaleFields):
    """A score that a judge model gives, brought from ``range`` to a reward from 0 to 1."""

    type: Type[Literal["score_model"]] = "score_model"
    name: Name = "score_model"
    input: list[JudgeMessage] = Field(
        min_length=1,
        max_length=64,
        description="The conversation that the judge answers with a number, with templates in it",
    )
    sampling_params: SamplingParams | None = Field(
        default=None, description="How the judge samples; default as its endpoint does"
    )


class CreativeWritingGrader(JudgeFields):
    """Five criteria that a judge model scores; the reward is their mean, as a share of ``scale``."""

    type: Type[Literal["creative_writing"]] = "creative_writing"
    name: Name = "creative_writing"
    input: Template = Field(default="{{sample.output_text}}", description="The text to score: a template")
    prompt: Template = Field(default="{{item.prompt}}", description="What the text was to answer")
    scale: Literal[10, 20] = Field(default=20, description="The best score of a criterion")
    sampling_params: SamplingParams | None = Field(
        default=None, description="How the judge samples; default as its endpoint does"
    )


class MathVerifyGrader(GraderFields):
    """1.0 if the response's answer, boxed or its last expression, is mathematically ``reference``."""

    type: Type[Literal["math_verify"]] = "math_verify"
    name: Name = "math_verify"
    input: Template = Field(
        default="{{sample.output_text}}", description="Where the answer is looked for: a template"
    )
    reference: Template = Field(
        default="{{item.answer}}", description="The right answer, in LaTeX or plain: a template"
    )
    timeout_seconds: float = Field(default=10, gt=0, le=300, description="For each sample")


class HttpGrader(RemoteFields, ScaleFields):
    """The reward that a service of yours answers with to a signed POST of item and response."""

    type: Type[Literal["http"]] = "http"
    name: Name = "http"
    url: str = Field(max_length=2048, description="Where item and response are posted")
    secret: OperatorsName = Field(description="One of the operator's secrets, by name; it signs the requests")


SimpleGrader = Annotated[
    StringCheckGrader
    | TextSimilarityGrader
    | ScoreModelGrader
    | PythonGrader
    | MathVerifyGrader
    | EnvironmentGrader
    | HttpGrader
    | CreativeWritingGrader,
    Field(discriminator="type"),
]


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
    ] = Field(description="The graders by name, up to 32, or a single one")
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
                    f"{name[:80]!r} cannot stand in a formula; a name has letters, digits and underscores"
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


Grader = Annotated[
    StringCheckGrader
    | TextSimilarityGrader
    | ScoreModelGrader
    | PythonGrader
    | MultiGrader
    | MathVerifyGrader
    | EnvironmentGrader
    | HttpGrader
    | CreativeWritingGrader,
    Field(discriminator="type"),
]
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
        case ScoreModelGrader():
            return set().union(*(variables(message.template) for message in grader.input))
        case CreativeWritingGrader():
            return variables(grader.input) | variables(grader.prompt)
        case _:
            return set()
