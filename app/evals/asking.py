"""From an item to what a model is asked: one rule for the check of a run's creation and for its workers."""

from collections.abc import Callable

from app.core.errors import BadRequest
from app.core.validation import abbreviated, validated
from app.evals.data_sources import AskingRun, CompletionsRun, ItemReference, TextOptions
from app.inference.sampling import SamplingRequest
from app.inference.schemas import ChatCompletionRequest
from trainer.graders.grade import GraderError, Sample
from trainer.graders.judge import conversation_template
from trainer.graders.templates import field_of

#: Where no seed is given; as hosted.
DEFAULT_SEED = 42
Item = dict[str, object]


class Asking:
    """What a run asks for each item."""

    def __init__(self, source: AskingRun, of: dict[str, object] | None = None):
        """``of``: model and mode in place of those that the source names."""
        self._source = source
        self._fixed = _fixed(source) | (of or {})
        messages = source.input_messages
        self._messages: Callable[[Item], object]
        if isinstance(messages, ItemReference):
            name = messages.item_reference
            self._messages = lambda item: field_of(item, name)
        else:
            render = conversation_template(messages.template)
            self._messages = lambda item: render(Sample(item, ""))

    def request(self, item: Item, seed: int) -> ChatCompletionRequest:
        """The chat request of an item. Raises BadRequest, which names a field of a chat request."""
        body = self.body(item, seed)
        if self._source.endpoint is not None:
            body.pop("reasoning_effort", None)  # what other models take, they say themselves
        return validated(ChatCompletionRequest, body)

    def of_modes(self) -> SamplingRequest:
        """A request that says which model is asked in which mode, and nothing of an item."""
        return SamplingRequest.model_validate({key: self._fixed.get(key) for key in ("model", "mode")})

    def body(self, item: Item, seed: int) -> dict[str, object]:
        """The request as JSON, for an endpoint that answers chat completions. Raises BadRequest likewise."""
        try:
            messages = self._messages(item)
        except GraderError as error:
            raise BadRequest(f"{error}.", param="input_messages") from None
        if not isinstance(messages, list):
            raise BadRequest(
                f"The messages are {abbreviated(messages)}; they must be a list, as in a chat request.",
                param="input_messages",
            )
        return self._fixed | {"messages": messages, "seed": seed}


def _fixed(source: AskingRun) -> dict[str, object]:
    """What the requests of all items have in common."""
    sampling = source.sampling_params
    given: dict[str, object] = {"model": source.model}
    if source.mode is not None:
        given["mode"] = source.mode
    given |= sampling.model_dump(
        include={"max_completion_tokens", "temperature", "top_p", "reasoning_effort"}, exclude_none=True
    )
    if isinstance(source, CompletionsRun):
        given |= sampling.model_dump(include={"response_format", "tools"}, exclude_none=True, by_alias=True)
        return given
    responses = source.sampling_params
    if responses.tools is not None:
        given["tools"] = [
            {"type": one.type, "function": one.model_dump(exclude={"type"}, exclude_none=True)}
            for one in responses.tools
        ]
    if (form := _nested(responses.text)) is not None:
        given["response_format"] = form
    return given


def _nested(text: TextOptions | None) -> dict[str, object] | None:
    """The form of answers in the words of chat requests."""
    if text is None or text.format is None:
        return None
    form = text.format.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
    told: dict[str, object] = {"type": text.format.type}
    return told | {"json_schema": form} if form else told
