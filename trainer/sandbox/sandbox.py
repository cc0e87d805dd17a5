"""A sandbox with a service in it, from outside: questions in, answers out."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from trainer.sandbox.bubblewrap import PACKAGES_AT, NoIsolation, command
from trainer.sandbox.packages import OFFERED
from trainer.sandbox.process import ChildDied, ChildProcess, ChildTimedOut

START_SECONDS = 120.0
#: On top of the limit that the sandbox itself keeps.
GRACE_SECONDS = 5.0
#: Address space of process 1, which imports libraries.
FIRST_BYTES = 8 << 30
LIBRARY_BYTES = 4 << 30


class Refused(Exception):
    """The service cannot be set up as it was asked to; says why."""


@dataclass(frozen=True)
class Service:
    """One of the modules of ``trainer.sandbox.inside`` that answer questions, and under which limits."""

    name: Literal["source", "environment", "mathematics", "json_schema"]
    seconds: float
    """For each question."""
    setup: dict[str, object] = field(default_factory=dict)
    memory_bytes: int = LIBRARY_BYTES
    alone: bool = False
    """Each question in a process of its own."""
    tripwire: bool = True
    """Also those questions for which a library runs text as code, where they are not alone anyway."""
    answer_bytes: int = 1 << 16

    @property
    def packages(self) -> tuple[str, ...]:
        return _PACKAGES[self.name]


_PACKAGES: dict[str, tuple[str, ...]] = {
    "source": OFFERED,
    "environment": ("reasoning-gym",),
    "mathematics": ("sympy",),
    "json_schema": ("jsonschema",),
}


class Sandbox:
    """One sandbox with one service. Not for two threads at once; after a failure it is started again."""

    def __init__(self, service: Service):
        """Raises NoIsolation or Refused."""
        self._service = service
        self._ended = False
        self._child: ChildProcess | None = _start(service)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def ask(self, question: str) -> dict[str, object]:
        """The service's answer."""
        (answer,) = self.ask_many([question])
        return answer

    def ask_many(self, questions: Sequence[str]) -> list[dict[str, object]]:
        """Its answers. Each is what the service says itself, or one of these, which say why there is none:

        ``{"error"}`` the service raised it; ``{"late"}`` it took too long; ``{"failed"}`` its process ended;
        ``{"down"}`` the sandbox itself is at fault.
        """
        answers: list[dict[str, object]] = []
        # What is left unanswered by a sandbox that ended, or that is to be thrown away, is asked of the next.
        while len(answers) < len(questions):
            try:
                for line in self._lines(questions[len(answers) :]):
                    answers.append(_read(line[1:]))
                    if line.startswith(b"1"):
                        self.close()
                        break
            except (NoIsolation, Refused, ChildDied) as error:
                self.close()
                answers.append({"down": f"the sandbox ended: {error}"})
            except ChildTimedOut:
                self.close()
                answers.append({"down": "the sandbox did not answer in time"})
        return answers

    def _lines(self, questions: Sequence[str]) -> Iterator[bytes]:
        if self._ended:
            raise ChildDied("it was closed")
        if self._child is not None and self._child.has_ended:  # while it waited: no question is to blame
            self.close()
        self._child = self._child or _start(self._service)
        # Where each has a process of its own, no other question is near meanwhile.
        now = questions[:1] if self._service.alone else questions
        return self._child.requests([one.encode() for one in now], self._service.seconds + GRACE_SECONDS)

    def end(self) -> None:
        """Answer nothing more, not even what is being asked; from any thread. Close it afterwards."""
        self._ended = True
        if (child := self._child) is not None:
            child.kill()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


@lru_cache
def require_isolation() -> None:
    """Raise NoIsolation where there can be no sandbox. Tried with a real one, until it works once."""
    source = "def grade(sample, item):\n    return 1"
    try:
        sandbox = Sandbox(Service("source", 10, {"source": source, "offered": []}, 256 << 20, alone=True))
    except Refused as error:
        raise NoIsolation(str(error)) from error
    try:
        answer = sandbox.ask('{"sample": {}, "item": {}}')
    finally:
        sandbox.close()
    if answer.get("score") != 1:
        raise NoIsolation(str(answer))


def _start(service: Service) -> ChildProcess:
    line = command(service.packages)
    # The kernel ends a sandbox with the thread that started it: so that is one which stays.
    child = _starter(os.getpid()).submit(ChildProcess, line, {}).result()
    plan = {
        "service": service.name,
        "setup": service.setup,
        "packages": [PACKAGES_AT],
        "first_memory": max(FIRST_BYTES, service.memory_bytes),
        "memory": service.memory_bytes,
        "seconds": service.seconds,
        "start_seconds": START_SECONDS,
        "alone": service.alone,
        "tripwire": service.tripwire,
        "answer_bytes": service.answer_bytes,
    }
    try:
        answer = _read(child.request(json.dumps(plan).encode(), START_SECONDS + GRACE_SECONDS)[1:])
    except ChildDied as error:
        raise NoIsolation(f"bubblewrap: {error}") from error
    except ChildTimedOut as error:
        raise NoIsolation(f"the sandbox did not start within {START_SECONDS:g} s") from error
    if answer.get("ready") is True:
        return child
    child.close()
    if "refused" in answer:
        raise Refused(str(answer["refused"]))
    raise NoIsolation(str(answer.get("broken") or answer))


def _read(line: bytes) -> dict[str, object]:
    """What a process said that strangers' code may have run in."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return {"failed": "returned an invalid answer"}
    return answer if isinstance(answer, dict) else {"failed": "returned an invalid answer"}


@lru_cache
def _starter(_process: int) -> ThreadPoolExecutor:
    """By process: a thread does not survive a fork."""
    return ThreadPoolExecutor(1, thread_name_prefix="sandbox-starter")
