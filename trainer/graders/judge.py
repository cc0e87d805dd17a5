"""A judge model's verdict: asked for as JSON of a schema, read whatever way it was written down."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.graders.grade import GraderError
from trainer.graders.remote import ModelEndpoint, RemoteError
from trainer.graders.spec import SamplingParams
from trainer.graders.thoughts import split_thoughts

Messages = list[dict[str, str]]

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
_MAX_OBJECTS = 200
#: Answers that may mean: not in this form.
_OTHER_FORM = (400, 404, 415, 422, 501)


class Judge:
    """Asks for numbers by name.

    Chat templates differ in what they take: many want one system message, first, or none at all. What is
    asked is put so; a judge that refuses the system role gets the same in the user's turn, and one that knows
    no schemas is told the schema in words alone. What a judge took is what it gets from then on.
    """

    def __init__(
        self,
        endpoint: ModelEndpoint,
        names: Sequence[str],
        low: float,
        high: float,
        sampling: SamplingParams | None,
    ):
        self._endpoint, self._names, self._low, self._high = endpoint, names, low, high
        self._options = _options(sampling)
        self._form = (True, True)

    def ask(self, messages: Messages) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """The numbers by name, and the tokens that were used. Raises GraderError."""
        answer = self._post(messages)
        usage = {self._endpoint.model: _usage(answer)}
        text = _content(answer, usage)
        try:
            # A judge that thinks may weigh other scores before it gives its own.
            return self._numbers(split_thoughts(text).answer), usage
        except ValueError as error:
            raise GraderError(
                f"the judge's answer has no score: {error}; it was: {text[:300]!r}",
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
        keys = ", ".join(f'"{name}": a number from {self._low:g} to {self._high:g}' for name in self._names)
        return f'Answer with one JSON object, nothing else: {{"reasoning": a short text, {keys}}}.'

    def _schema(self) -> dict[str, object]:
        number = {"type": "number", "minimum": self._low, "maximum": self._high}
        properties = {"reasoning": {"type": "string"}} | dict.fromkeys(self._names, number)
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}

    def _numbers(self, text: str) -> dict[str, float]:
        """Raises ValueError that says what is missing or wrong."""
        found = next((one for one in _objects(text) if set(self._names) <= one.keys()), None)
        if found is None and len(self._names) == 1 and (bare := _number(text.strip())) is not None:
            found = {self._names[0]: bare}
        if found is None:
            raise ValueError(f"no JSON object with {', '.join(map(repr, self._names))}")
        return {name: self._one(name, found[name]) for name in self._names}

    def _one(self, name: str, value: object) -> float:
        number = _number(value)
        if number is None:
            raise ValueError(f"{name} is {value!r}, not a number")
        if not self._low <= number <= self._high:
            raise ValueError(f"{name} is {number:g}, not from {self._low:g} to {self._high:g}")
        return number


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


def _usage(answer: dict[str, object]) -> dict[str, int]:
    usage = answer.get("usage")
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {
        name: usage[name] for name in names if isinstance(usage, dict) and isinstance(usage.get(name), int)
    }


def _objects(text: str) -> Iterator[dict[str, object]]:
    """JSON objects in a text: the whole, what is in a fence, and the last that stand among other words."""
    for candidate in (text, *reversed(_FENCE.findall(text))):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
    decoder = json.JSONDecoder()
    position = len(text)
    for _ in range(_MAX_OBJECTS):
        position = text.rfind("{", 0, position)
        if position < 0:
            return
        try:
            value, _ = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if len(str(value)) < 50 else None
    except (ValueError, OverflowError):
        return None
