"""A judge model is asked for a verdict, in a form that it takes."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from trainer.graders.grade import GraderError, Sample
from trainer.graders.judge_spec import JudgeMessage, SamplingParams
from trainer.graders.remote import ModelEndpoint, RemoteError
from trainer.graders.templates import compile_template
from trainer.graders.thoughts import split_thoughts
from trainer.graders.verdicts import Wanted

Messages = list[dict[str, str]]

V = TypeVar("V")
#: Answers that may mean: not in this form.
_OTHER_FORM = (400, 404, 415, 422, 501)


class Judge(Generic[V]):
    """Asks for what ``wanted`` describes.

    Chat templates differ in what they take: many want one system message, first, or none at all. What is
    asked is put so; a judge that refuses the system role gets the same in the user's turn, and one that knows
    no schemas is told the schema in words alone. What a judge took is what it gets from then on.
    """

    def __init__(
        self,
        endpoint: ModelEndpoint,
        wanted: Wanted[V],
        sampling: SamplingParams | None,
    ):
        self._endpoint, self._wanted = endpoint, wanted
        self._options = _options(sampling)
        self._form = (True, True)

    def ask(self, messages: Messages) -> tuple[V, dict[str, dict[str, int]]]:
        """The verdict, and the tokens that were used. Raises GraderError."""
        answer = self._post(messages)
        usage = {self._endpoint.model: usage_of(answer)}
        text = _content(answer, usage)
        try:
            # A judge that thinks may weigh other scores before it gives its own.
            return self._wanted.read(split_thoughts(text).answer), usage
        except ValueError as error:
            raise GraderError(
                f"the judge's answer has no {self._wanted.called}: {error}; it was: {text[:300]!r}",
                "model_grader_parse_error",
                usage,
            ) from None

    def _post(self, messages: Messages) -> dict[str, object]:
        """The answer to the first form that the judge takes.

        Raises GraderError with what it said to the first that was tried.
        """
        problem: RemoteError | None = None
        structured, system_role = self._form
        for form in (
            (structured, system_role),
            (False, system_role),
            (structured, False),
            (False, False),
        ):
            if problem is not None and (form == self._form or problem.status not in _OTHER_FORM):
                continue
            try:
                answer = self._endpoint.post("/chat/completions", self._body(messages, *form))
            except RemoteError as error:
                problem = problem or error
                continue
            self._form = form
            return answer
        raise GraderError(str(problem), "model_grader_server_error") from problem

    def _body(self, messages: Messages, structured: bool, system_role: bool) -> dict[str, object]:
        told = system_first(messages, self._instruction())
        body = {"model": self._endpoint.model, "messages": told if system_role else in_users_turn(told)}
        return body | self._options | ({"response_format": self._schema()} if structured else {})

    def _instruction(self) -> str:
        keys = ", ".join(f'"{name}": {words}' for name, (words, _) in self._wanted.keys().items())
        return f'Answer with one JSON object, nothing else: {{"reasoning": a short text, {keys}}}.'

    def _schema(self) -> dict[str, object]:
        keys = {name: schema for name, (_, schema) in self._wanted.keys().items()}
        properties = {"reasoning": {"type": "string"}} | keys
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}


def conversation_template(messages: Sequence[JudgeMessage]) -> Callable[[Sample], Messages]:
    """Fills a definition's messages with a sample. OpenAI's "developer" is what others call "system"."""
    compiled = [
        ("system" if one.role == "developer" else one.role, compile_template(one.template))
        for one in messages
    ]
    return lambda sample: [{"role": role, "content": render(sample)} for role, render in compiled]


def system_first(messages: Messages, instruction: str) -> Messages:
    """The messages with one system message, at their beginning: all that there are, and ``instruction``.

    The user's where nobody else says anything: a judge answers to a user.
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    return [{"role": "system" if others else "user", "content": "\n\n".join([*system, instruction])}, *others]


def in_users_turn(messages: Messages) -> Messages:
    """The messages with the system's text in front of the first user's, and turns that take turns."""
    system, *others = messages
    told: Messages = [{"role": "user", "content": system["content"]}]
    for message in others:
        if message["role"] == told[-1]["role"]:
            told[-1] = message | {"content": f"{told[-1]['content']}\n\n{message['content']}"}
        else:
            told.append(message)
    return told


def _options(sampling: SamplingParams | None) -> dict[str, object]:
    if sampling is None:
        return {}
    options = sampling.model_dump(exclude_none=True)
    if "max_completions_tokens" in options:
        options["max_completion_tokens"] = options.pop("max_completions_tokens")
    return options


def _content(answer: dict[str, object], usage: dict[str, dict[str, int]]) -> str:
    try:
        choices: Any = answer["choices"]
        message = choices[0]["message"]
        refusal, text = message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise GraderError(
            "the judge's answer is not a chat completion", "model_grader_server_error", usage
        ) from None
    if refusal:
        raise GraderError(f"the judge refused: {str(refusal)[:300]}", "model_grader_refusal_error", usage)
    if not isinstance(text, str) or not text.strip():
        raise GraderError("the judge's answer is empty", "model_grader_parse_error", usage)
    return text


def usage_of(answer: dict[str, object]) -> dict[str, int]:
    """Tokens that an answer of chat completions says were read and written."""
    usage: Any = answer.get("usage")
    if not isinstance(usage, dict):
        return {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts: dict[str, Any] = usage | {"cached_tokens": cached}
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    return {name: counts[name] for name in names if isinstance(counts.get(name), int)}
