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
    """An item, and the answer to it where that is there already."""

    item: dict[str, object] = Field(description="What templates read as item")
    sample: dict[str, object] | None = Field(
        default=None,
        description="An answer that is there already, with output_text or a completion's choices; of jsonl "
        "runs",
    )


def _some(rows: list[Row]) -> list[Row]:
    if not rows:
        raise ValueError("give at least one row")
    return rows


class FileContent(StrictModel):
    """Rows in the request itself."""

    type: Literal["file_content"] = Field(description="The rows stand in content")
    # Not as the description's least length: a list of runs shows them without their rows.
    content: Annotated[list[Row], AfterValidator(_some)] = Field(
        max_length=MAX_INLINE_ROWS, description="The rows, 1 to 10000; more go into a file"
    )


class FileId(StrictModel):
    """Rows of an uploaded file."""

    type: Literal["file_id"] = Field(description="The rows are those of a file")
    id: str = Field(
        description="A file with the purpose evals; or one with the purpose fine-tune, whose rows are the "
        "items"
    )


def _is_at_hand(value: object) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("stored_completions", "responses"):
        raise ValueError(
            f"answers are not kept here, so there is nothing of the type {str(kind)!r} to evaluate: give the "
            "rows, as {'type': 'file_id', 'id': …} or {'type': 'file_content', 'content': […]}, with each "
            "answer in 'sample' (of a jsonl run), or have a model answer"
        )
    return value


Source = Annotated[FileContent | FileId, Field(discriminator="type"), BeforeValidator(_is_at_hand)]


class TemplateMessage(JudgeMessage):
    """A message to the model that is evaluated; text alone, with templates of the item."""

    phase: Literal["commentary", "final_answer"] | None = Field(
        default=None, description="Of an earlier answer, at OpenAI; changes nothing"
    )

    @model_validator(mode="after")
    def _reads_the_item(self) -> "TemplateMessage":
        for name in variables(self.template):
            if parse_name(name)[0] != "item":
                raise ValueError(
                    f"the template variable '{name[:80]}' is of the answer, which is not there yet; it "
                    "should be item.FIELD"
                )
        return self


class Template(StrictModel):
    """Messages with ``{{item.…}}`` in them."""

    type: Literal["template"] = Field(description="The messages stand here")
    template: list[TemplateMessage] = Field(
        min_length=1, max_length=256, description="The conversation, oldest message first"
    )


def _names_a_field(value: str) -> str:
    if not value.startswith("item.") or template_problem("{{" + value + "}}"):
        raise ValueError(
            f"{value[:80]!r} is not a field of the item; write it as item.FIELD, such as item.messages"
        )
    return value


class ItemReference(StrictModel):
    """Messages that the item brings."""

    type: Literal["item_reference"] = Field(description="The messages are the item's")
    item_reference: Annotated[str, Field(max_length=512), AfterValidator(_names_a_field)] = Field(
        description="Where in the item they are, such as item.messages: a list as a chat request has it"
    )


InputMessages = Annotated[Template | ItemReference, Field(discriminator="type")]


class Sampling(StrictModel):
    """How the model samples; defaults are those of training and of chat."""

    max_completion_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most tokens of an answer, thoughts included; default what the context has room for",
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is greedy; default 1")
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample among the likeliest tokens that together have this probability; default 1",
    )
    seed: int | None = Field(
        default=None,
        ge=-(2**63),
        lt=2**63,
        description="What the items' own seeds are derived from; runs with the same one draw alike. Default "
        "42",
    )
    reasoning_effort: Effort | None = Field(
        default=None, description="How long the model may think, as chat requests take it"
    )


class CompletionsSampling(Sampling):
    """With the form and the tools of chat requests."""

    response_format: ResponseFormat | None = Field(
        default=None, description="The form that answers must have; default any text"
    )
    tools: list[Tool] | None = Field(
        default=None, max_length=128, description="Functions that the model may call"
    )


class FlatFormat(StrictModel):
    """A form of answers, in the words of the Responses API."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="text: anything; json_object: any JSON object; json_schema: JSON of the form in schema"
    )
    name: str | None = Field(default=None, description="What the form is called; with json_schema")
    schema_: dict[str, object] | None = Field(
        default=None, alias="schema", description="The JSON schema that answers must fit; with json_schema"
    )
    description: str | None = Field(default=None, description="What the form is for; the model is not told")
    strict: bool | None = Field(default=None, description="Answers fit the schema either way")


class TextOptions(StrictModel):
    """Of the answer's text."""

    format: FlatFormat | None = Field(
        default=None, description="The form that answers must have; default any"
    )


class FlatTool(StrictModel):
    """A function that the model may call, in the words of the Responses API."""

    type: Literal["function"] = Field(description="Always function: tools of OpenAI's own are not here")
    name: str = Field(description="What the model calls it by; letters, digits, _ and -, up to 64")
    description: str | None = Field(default=None, description="When and what for to call it")
    parameters: dict[str, object] | None = Field(
        default=None, description="A JSON schema of the arguments; default none"
    )
    strict: bool | None = Field(
        default=None, description="Whether arguments must fit, where the model's engine can do that"
    )


class ResponsesSampling(Sampling):
    """With the form and the tools of the Responses API."""

    text: TextOptions | None = Field(default=None, description="Of the answer's text: its form")
    tools: list[FlatTool] | None = Field(
        default=None, max_length=128, description="Functions that the model may call"
    )


class JsonlRun(StrictModel):
    """Answers that are there already, or items that are graded by themselves: no model is asked."""

    type: Literal["jsonl"] = Field(description="Rows are graded as they are")
    source: Source = Field(description="Where the rows are")


class Asking(StrictModel):
    """Of runs that ask a model."""

    source: Source = Field(description="Where the items are")
    model: Named = Field(
        description="Id of a model of GET /v1/models; `:high-entropy` at its end asks for that mode. With "
        "endpoint, the name that the endpoint has for it"
    )
    mode: Literal["normal", "high-entropy"] | None = Field(
        default=None, description="The mode to answer in; default: what the model's id says"
    )
    endpoint: OperatorsName | None = Field(
        default=None,
        description="One of the operator's endpoints, by name, that answers in place of a model here",
    )
    input_messages: InputMessages = Field(description="What the model is asked for each item")

    @model_validator(mode="after")
    def _has_modes(self) -> "Asking":
        if self.endpoint is not None and self.mode is not None:
            raise ValueError(
                "endpoint and mode are given, but only models of this service have modes: leave one out"
            )
        return self


class CompletionsRun(Asking):
    """A model is asked by chat completions."""

    type: Literal["completions"] = Field(description="A model answers each item, as to a chat request")
    sampling_params: CompletionsSampling = Field(
        default_factory=CompletionsSampling, description="How it samples"
    )


class ResponsesRun(Asking):
    """The same in the words of the Responses API."""

    type: Literal["responses"] = Field(
        description="A model answers each item, with fields as /v1/responses has them"
    )
    sampling_params: ResponsesSampling = Field(
        default_factory=ResponsesSampling, description="How it samples"
    )


DataSource = Annotated[JsonlRun | CompletionsRun | ResponsesRun, Field(discriminator="type")]
AskingRun = CompletionsRun | ResponsesRun
