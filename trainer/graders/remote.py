"""Requests to an endpoint with a time limit, retries with back-off and jitter, and bounded concurrency."""

import json
import random
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from trainer.errors import InvalidSpec
from trainer.graders.fields import RemoteFields
from trainer.graders.judge_spec import JudgeFields
from trainer.graders.operator import allowed_hosts, endpoint_named
from trainer.system.addresses import Reach, Refused
from trainer.system.guarded_http import Answer, GuardedHttp, NoAnswer

FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 30.0
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class RemoteError(Exception):
    """No usable answer, after all tries. ``status`` is that of the last answer, None where there was none."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class Remote:
    """One URL's worth of requests."""

    def __init__(
        self, url: str, limits: RemoteFields, closed: threading.Event, allowed: frozenset[str], param: str
    ):
        reach = Reach(allowed, "POLICYSPLIT_GRADER_ALLOWED_HOSTS")
        try:
            reach.check_url(url)
        except Refused as error:
            raise InvalidSpec(f"{url[:200]!r}: {error}", param) from None
        self._url, self._limits, self._closed = url.rstrip("/"), limits, closed
        self._http = GuardedHttp(reach, limits.concurrency)

    def post(self, path: str, body: bytes, headers: Callable[[], dict[str, str]]) -> dict[str, object]:
        """The JSON object that is answered; ``headers`` are made for every try. Raises RemoteError."""
        for number in range(self._limits.max_retries + 1):
            answer, problem = self._try(path, body, headers())
            if answer is not None and 200 <= answer.status < 300:
                return _object(answer)
            status = None if answer is None else answer.status
            retry = status is None or status in _RETRIED
            last = number == self._limits.max_retries
            if not retry or last or self._closed.wait(_wait_seconds(number, answer)):
                tries = f" (after {number + 1} tries)" if number else ""
                raise RemoteError(f"{problem}{tries}", status)
        raise AssertionError

    def _try(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[Answer | None, str]:
        try:
            answer = self._http.post(self._url + path, body, headers, self._limits.timeout_seconds)
        except NoAnswer as error:
            return None, f"{self._host} did not answer: {error}"
        except Refused as error:
            raise RemoteError(str(error), 0) from None
        if 300 <= answer.status < 400:
            return answer, f"{self._host} answered with a redirect ({answer.status}), which is not followed"
        text = answer.body[:300].decode(errors="replace").strip()
        return answer, f"{self._host} answered {answer.status}: {text}"

    @property
    def _host(self) -> str:
        return urlsplit(self._url).netloc

    def close(self) -> None:
        self._http.close()


class ModelEndpoint:
    """An OpenAI-compatible endpoint, with its key in the one place where it is sent."""

    def __init__(self, spec: JudgeFields, closed: threading.Event):
        self.model = spec.model
        allowed = allowed_hosts()
        if spec.base_url is not None:
            url, key = spec.base_url, None
        else:
            endpoint, key = endpoint_named(spec.endpoint)
            url = endpoint.url
            # The operator's own word: also in a private network.
            allowed |= {urlsplit(url).netloc.lower(), (urlsplit(url).hostname or "").lower()}
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._remote = Remote(url, spec, closed, allowed, "grader.base_url")

    def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
        """What is answered. Raises RemoteError."""
        return self._remote.post(path, json.dumps(body).encode(), lambda: self._headers)

    def close(self) -> None:
        self._remote.close()


def _object(answer: Answer) -> dict[str, object]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        text = answer.body[:200].decode(errors="replace")
        raise RemoteError(f"the answer is not a JSON object: {text}", answer.status)
    return value


def _wait_seconds(number: int, answer: Answer | None) -> float:
    """Doubling, with jitter; what the server asks for by ``retry-after``, if that is longer."""
    wait = FIRST_WAIT_SECONDS * 2**number * random.uniform(0.5, 1.0)
    if answer is not None and (asked := answer.headers.get("retry-after", "")).isdecimal():
        wait = max(wait, float(asked[:6]))
    return min(wait, MAX_WAIT_SECONDS)
