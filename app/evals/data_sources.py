"""What a run is made of: where its items come from, and what is asked of which model for each."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from trainer.graders.fields import OperatorsName
from trainer.graders.judge_spec import JudgeMessage
from trainer.graders.response_format import ResponseFormat
from trainer.graders.spec import StrictModel
from trainer.graders.templates import parse_name, template_problem, variables
from trainer.spec.messages import Tool

#: Of rows in a request's own body, whose size is bounded, too.
MAX_INLINE_ROWS = 10_000
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Named = Annotated[str, Field(min_length=1, max_length=512)]


class Row(StrictModel):
    """An item, and the answer to it if there is one already."""

    item: dict[str, object] = Field(description="What templates read as `item`")
    sample: dict[str, object] | None = Field(
        default=None,
        description="An existing answer, with output_text or a completion's choices; for jsonl runs",
    )


def _some(rows: list[Row]) -> list[Row]:
    if not rows:
        raise ValueError("give at least one row")
    return rows


class FileContent(StrictModel):
    """Rows in the request itself."""

    type: Literal["file_content"] = Field(description="The rows are in content")
    # Not as the description's least length: a list of runs shows them without their rows.
    content: Annotated[list[Row], AfterValidator(_some)] = Field(
        max_length=MAX_INLINE_ROWS, description="The rows, 1 to 10000; for more, use a file"
    )


class FileId(StrictModel):
    """Rows of an uploaded file."""

    type: Literal["file_id"] = Field(description="The rows are in a file")
    id: str = Field(
        description="Id of a file with the purpose evals, or with the purpose fine-tune, whose rows are "
        "the items"
    )


def _is_at_hand(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("stored_completions", "responses"):
        raise ValueError(
            f"answers are not stored here, so there is nothing of the type {str(kind)!r} to evaluate: "
            "give the rows, as {'type': 'file_id', 'id': …} or {'type': 'file_content', 'content': […]}, "
            "with each answer in 'sample' (for a jsonl run), or have a model answer"
        )
    return value


Source = Annotated[FileContent | FileId, Field(discriminator="type"), BeforeValidator(_is_at_hand)]


class TemplateMessage(JudgeMessage):
    """A message to the evaluated model; only text, with templates of the item."""

    phase: Literal["commentary", "final_answer"] | None = Field(
        default=None, description="Phase of an earlier answer at OpenAI; ignored"
    )

    @model_validator(mode="after")
    def _reads_the_item(self) -> "TemplateMessage":
        for name in variables(self.template):
            if parse_name(name)[0] != "item":
                raise ValueError(
                    f"the template variable '{name[:80]}' reads the answer, which does not exist yet; it "
                    "must be item.FIELD"
                )
        return self


class Template(StrictModel):
    """Messages with ``{{item.…}}`` in them."""

    type: Literal["template"] = Field(description="The messages are given here")
    template: list[TemplateMessage] = Field(
        min_length=1, max_length=256, description="The conversation, oldest message first"
    )


def _names_a_field(value: str) -> str:
    if not value.startswith("item.") or template_problem("{{" + value + "}}"):
        raise ValueError(
            f"{value[:80]!r} is not a field of the item; write item.FIELD, such as item.messages"
        )
    return value


class ItemReference(StrictModel):
    """Messages taken from the item."""

    type: Literal["item_reference"] = Field(description="The messages come from the item")
    item_reference: Annotated[str, Field(max_length=512), AfterValidator(_names_a_field)] = Field(
        description="Where they are in the item, such as item.messages: a list as in a chat request"
    )


InputMessages = Annotated[Template | ItemReference, Field(discriminator="type")]


class Sampling(StrictModel):
    """How the model samples; defaults are those of training and chat."""

    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens per answer, including thinking; default: as many as fit the context",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="0: greedy; default 1")
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample from the most likely tokens with this total probability; default 1",
    )
    seed: int | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**63,
        description="Seed from which each item's seed is derived; runs with the same seed sample alike. "
        "Default 42",
    )
    reasoning_effort: Effort | None = Field(
        default=None, description="How long the model may think, as in a chat request"
    )


class CompletionsSampling(Sampling):
    """With the format and the tools of chat requests."""

    response_format: ResponseFormat | None = Field(
        default=None, description="The format answers must have; default: any text"
    )
    tools: list[Tool] | None = Field(
        default=None, max_length=128, description="Functions that the model may call"
    )


class FlatFormat(StrictModel):
    """A format of answers, as in the Responses API."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="text: anything; json_object: any JSON object; json_schema: JSON that fits schema"
    )
    name: str | None = Field(default=None, description="Name of the format; with json_schema")
    schema_: dict[str, object] | None = Field(
        default=None, alias="schema", description="The JSON schema that answers must fit; with json_schema"
    )
    description: str | None = Field(default=None, description="Purpose of the format; not shown to the model")
    strict: bool | None = Field(default=None, description="Ignored: answers always fit the schema")


class TextOptions(StrictModel):
    """Options for the answer's text."""

    format: FlatFormat | None = Field(default=None, description="The format answers must have; default: any")


class FlatTool(StrictModel):
    """A function that the model may call, as in the Responses API."""

    type: Literal["function"] = Field(
        description="Always function: OpenAI's built-in tools are not available"
    )
    name: str = Field(description="The name the model calls it by; letters, digits, _ and -, up to 64")
    description: str | None = Field(default=None, description="When to call it and what for")
    parameters: dict[str, object] | None = Field(
        default=None, description="A JSON schema of the arguments; default: none"
    )
    strict: bool | None = Field(
        default=None, description="Whether arguments must fit the schema, if the engine supports that"
    )


class ResponsesSampling(Sampling):
    """With the format and the tools of the Responses API."""

    text: TextOptions | None = Field(default=None, description="Format of the answer's text")
    tools: list[FlatTool] | None = Field(
        default=None, max_length=128, description="Functions that the model may call"
    )


class JsonlRun(StrictModel):
    """Existing answers, or items graded by themselves: no model is queried."""

    type: Literal["jsonl"] = Field(description="Rows are graded as given")
    source: Source = Field(description="Where the rows are")


class Asking(StrictModel):
    """For runs that query a model."""

    source: Source = Field(description="Where the items are")
    model: Named = Field(
        description="Id of a model from GET /v1/models; the ending `:high-entropy` selects that mode. "
        "With endpoint, the endpoint's name for it"
    )
    mode: Literal["normal", "high-entropy"] | None = Field(
        default=None, description="The mode to answer in; default: as in the model's id"
    )
    endpoint: OperatorsName | None = Field(
        default=None,
        description="Name of one of the operator's endpoints that answers instead of a local model",
    )
    input_messages: InputMessages = Field(description="The prompt for each item")

    @model_validator(mode="after")
    def _has_modes(self) -> "Asking":
        if self.endpoint is not None and self.mode is not None:
            raise ValueError(
                "endpoint and mode are both given, but only this service's models have modes: leave one out"
            )
        return self


class CompletionsRun(Asking):
    """A model answers through chat completions."""

    type: Literal["completions"] = Field(description="A model answers each item, as in a chat request")
    sampling_params: CompletionsSampling = Field(
        default_factory=CompletionsSampling, description="How it samples"
    )


class ResponsesRun(Asking):
    """The same with the fields of the Responses API."""

    type: Literal["responses"] = Field(
        description="A model answers each item, with the fields of /v1/responses"
    )
    sampling_params: ResponsesSampling = Field(
        default_factory=ResponsesSampling, description="How it samples"
    )


DataSource = Annotated[JsonlRun | CompletionsRun | ResponsesRun, Field(discriminator="type")]
AskingRun = CompletionsRun | ResponsesRun
