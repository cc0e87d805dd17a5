"""A judge model's verdict: asked for as JSON of a schema, read whatever way it was written down."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.graders.grade import GraderError
from trainer.graders.remote import ModelEndpoint, RemoteError
from trainer.graders.spec import SamplingParams

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL)
_MAX_OBJECTS = 200


class Judge:
    """Asks for numbers by name."""

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
        self._structured = True

    def ask(self, messages: list[dict[str, str]]) -> tuple[dict[str, float], dict[str, dict[str, int]]]:
        """The numbers by name, and the tokens that were used. Raises GraderError."""
        body = {"model": self._endpoint.model, "messages": [*messages, self._instruction()], **self._options}
        answer = self._post(body)
        usage = {self._endpoint.model: _usage(answer)}
        text = _content(answer, usage)
        try:
            return self._numbers(text), usage
        except ValueError as error:
            raise GraderError(
                f"the judge's answer has no score: {error}; it was: {text[:300]!r}",
                "model_grader_parse_error",
                usage,
            ) from None

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._structured:
                try:
                    return self._endpoint.post(
                        "/chat/completions", body | {"response_format": self._schema()}
                    )
                except RemoteError as error:
                    if error.status not in (400, 404, 415, 422, 501):
                        raise
                    answer = self._endpoint.post("/chat/completions", body)
                    self._structured = False  # this endpoint knows no schemas; the instruction says the same
                    return answer
            return self._endpoint.post("/chat/completions", body)
        except RemoteError as error:
            raise GraderError(str(error), "model_grader_server_error") from None

    def _instruction(self) -> dict[str, str]:
        keys = ", ".join(f'"{name}": a number from {self._low:g} to {self._high:g}' for name in self._names)
        return {
            "role": "system",
            "content": f'Answer with one JSON object, nothing else: {{"reasoning": a short text, {keys}}}.',
        }

    def _schema(self) -> dict[str, Any]:
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

    def _one(self, name: str, value: Any) -> float:
        number = _number(value)
        if number is None:
            raise ValueError(f"{name} is {value!r}, not a number")
        if not self._low <= number <= self._high:
            raise ValueError(f"{name} is {number:g}, not from {self._low:g} to {self._high:g}")
        return number


def _options(sampling: SamplingParams | None) -> dict[str, Any]:
    if sampling is None:
        return {}
    options = sampling.model_dump(exclude_none=True)
    if "max_completions_tokens" in options:
        options["max_completion_tokens"] = options.pop("max_completions_tokens")
    return options


def _content(answer: dict[str, Any], usage: dict[str, dict[str, int]]) -> str:
    try:
        message = answer["choices"][0]["message"]
        refusal, text = message.get("refusal"), message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise GraderError(
            "the judge's answer is no chat completion", "model_grader_server_error", usage
        ) from None
    if refusal:
        raise GraderError(f"the judge refused: {str(refusal)[:300]}", "model_grader_refusal_error", usage)
    if not isinstance(text, str) or not text.strip():
        raise GraderError("the judge's answer is empty", "model_grader_parse_error", usage)
    return text


def _usage(answer: dict[str, Any]) -> dict[str, int]:
    usage = answer.get("usage")
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {
        name: usage[name] for name in names if isinstance(usage, dict) and isinstance(usage.get(name), int)
    }


def _objects(text: str) -> Iterator[dict[str, Any]]:
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


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value) if len(str(value)) < 50 else None
    except (ValueError, OverflowError):
        return None
