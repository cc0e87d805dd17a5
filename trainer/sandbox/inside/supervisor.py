"""Process 1 of a sandbox: reads questions, a line each, and answers with a line each, in their order.

Ahead of lines stands how many they are. The first line is the plan: the service, its set-up and the limits.
Process 1 imports libraries, once; it evaluates nothing that a stranger said. Its children do, each confined
for good before its first question:

* ``alone``: a child for each question, which ends with it;
* otherwise one child answers question after question, and a question that makes a library run text as code is
  answered by a child of its own instead.

A child that takes longer than ``seconds`` over a question, or that ends, is an answer, too: ``{"late": why}``
or ``{"failed": why}``.
An answer's line begins with 1 where this sandbox should be thrown away after it, else with 0.
"""

import contextlib
import gc
import importlib
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

from .confinement import MAX_OPEN_FILES, SCRATCH, confine_child, confine_first
from .tripwire import Evaluation, Tripwire

Answer = dict[str, object]
Handle = Callable[[bytes], Answer]
Prepare = Callable[[], Handle]
_CHUNK = 1 << 16
_EVALUATES = b'{"evaluates": true}\n'
_QUESTIONS, _ANSWERS = 3, 4


class Plan(TypedDict):
    """The service, and the limits of its children."""

    service: str
    setup: Mapping[str, object]
    packages: list[str]
    first_memory: int
    memory: int
    seconds: float
    start_seconds: float
    alone: bool
    tripwire: bool
    answer_bytes: int


class Refused(Exception):
    """The set-up cannot work; says why."""


class Ended(Exception):
    """The child did not answer; says why."""

    kind = "failed"


class Late(Ended):
    """Nor would it have."""

    kind = "late"


class Supervisor:
    """Has the questions answered, by children of its own."""

    def __init__(self, prepare: Prepare, plan: Plan):
        self._prepare, self._plan = prepare, plan
        self._shared: Child | None = None
        self._untouched = _left()
        if not plan["alone"]:
            self._shared = self._prepared()

    def answers(self, questions: list[bytes]) -> Iterator[bytes]:
        """Each as it comes."""
        if self._plan["alone"]:
            yield from map(self._alone, questions)
            return
        done = 0
        while done < len(questions):
            for answer in self._shared_answers(questions[done:]):
                yield self._alone(questions[done]) if answer == _EVALUATES else answer
                done += 1

    def is_spent(self) -> bool:
        """Whether something was left on the disk, where the next question would find it."""
        return _left() != self._untouched

    def _alone(self, question: bytes) -> bytes:
        child = Child(self._prepare, self._plan, only=question)
        try:
            return child.line(self._plan["seconds"])
        except Ended as why:
            return _line({why.kind: str(why)})
        finally:
            child.end()

    def _shared_answers(self, questions: list[bytes]) -> Iterator[bytes]:
        """As far as the child gets; where it ends, the last of them says so."""
        try:
            self._shared = self._shared or self._prepared()
            yield from self._shared.lines(len(questions), self._plan["seconds"], b"".join(questions))
        except Ended as why:
            if self._shared is not None:
                self._shared.end()
            self._shared = None
            yield _line({why.kind: str(why)})
        except Refused as why:
            yield _line({"failed": str(why)})

    def _prepared(self) -> "Child":
        child = Child(self._prepare, self._plan)
        try:
            ready = json.loads(child.line(self._plan["start_seconds"]))
            if "refused" in ready:
                raise Refused(str(ready["refused"]))
        except (Ended, ValueError) as why:
            child.end()
            raise Refused(f"its set-up {why}") from None
        return child


class Child:
    """A process that answers questions, or only one."""

    def __init__(self, prepare: Prepare, plan: Plan, only: bytes | None = None):
        self._limit = plan["answer_bytes"]
        questions, self._questions = os.pipe()
        self._answers, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            # Nobody else's pipes: those of process 1, and of a child beside this one.
            os.dup2(questions, MAX_OPEN_FILES - 2)
            os.dup2(answers, MAX_OPEN_FILES - 1)
            os.dup2(MAX_OPEN_FILES - 2, _QUESTIONS)
            os.dup2(MAX_OPEN_FILES - 1, _ANSWERS)
            os.closerange(_ANSWERS + 1, MAX_OPEN_FILES)
            _serve(prepare, plan, only)
        os.close(questions)
        os.close(answers)
        os.set_blocking(self._questions, False)

    def line(self, seconds: float) -> bytes:
        """The child's next line. Raises Ended."""
        (line,) = self.lines(1, seconds)
        return line

    def lines(self, count: int, seconds: float, to_send: bytes = b"") -> Iterator[bytes]:
        """The child's next lines, each within ``seconds`` of the one before, while ``to_send`` is sent.

        Raises Ended.
        """
        deadline, data = time.monotonic() + seconds, b""
        wait = select.poll()
        wait.register(self._answers, select.POLLIN)
        if to_send:
            wait.register(self._questions, select.POLLOUT)
        while count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late(f"took longer than {seconds:g} s and was killed")
            for descriptor, _ in wait.poll(left * 1000):
                if descriptor == self._answers:
                    chunk = os.read(self._answers, _CHUNK)
                    if not chunk:
                        raise Ended(self._cause())
                    *lines, data = (data + chunk).splitlines(keepends=True)
                    if data.endswith(b"\n"):
                        lines, data = [*lines, data], b""
                    if len(data) > self._limit:
                        raise Ended(f"returned more than {self._limit} bytes")
                    yield from lines[:count]
                    if lines:
                        count -= len(lines[:count])
                        deadline = time.monotonic() + seconds
                    continue
                with contextlib.suppress(BrokenPipeError):
                    to_send = to_send[os.write(self._questions, to_send[:_CHUNK]) :]
                if not to_send:
                    wait.unregister(self._questions)

    def end(self) -> None:
        """Kill it, whatever it does. It can have no children."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        os.close(self._questions)
        os.close(self._answers)

    def _cause(self) -> str:
        os.kill(self._pid, signal.SIGKILL)  # in case it only closed its answers
        status = self._wait()
        if os.WIFSIGNALED(status):
            return f"was ended by signal {os.WTERMSIG(status)}"
        return f"exited with code {os.WEXITSTATUS(status)}"

    def _wait(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status


def _serve(prepare: Prepare, plan: Plan, only: bytes | None) -> None:
    """What a child does; it never returns."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    try:
        confine_child(plan["memory"], None if only is None else math.ceil(plan["seconds"]) + 1)
        handle = prepare()
        if only is not None:
            _write(_line(_handled(handle, only)))
        else:
            _write(_line({"ready": True}))
            _answer_all(handle, tripwire=plan["tripwire"])
    except BaseException as error:
        _write(_line({"refused": str(error) if isinstance(error, Refused) else _described(error)}))
    os._exit(0)


def _answer_all(handle: Handle, *, tripwire: bool) -> None:
    wire = Tripwire() if tripwire else None
    for question in os.fdopen(_QUESTIONS, "rb"):
        if wire is None:
            _write(_line(_handled(handle, question)))
            continue
        wire.watch()
        try:
            answer = _handled(handle, question)
        except Evaluation:
            answer = {}
        _write(_EVALUATES if wire.touched() else _line(answer))


def _handled(handle: Handle, question: bytes) -> Answer:
    try:
        return handle(question)
    except Evaluation:
        raise
    except BaseException as error:
        return {"error": _described(error)}


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:500]}"


def _left() -> set[str]:
    """What is on the disk."""
    with os.scandir(SCRATCH) as entries:
        return {entry.name for entry in entries}


def _line(answer: Answer) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(_ANSWERS, data) :]


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def main() -> None:
    """Answer until the end of input."""
    sys.stdin.buffer.readline()
    plan: Plan = json.loads(sys.stdin.buffer.readline())
    sys.path.extend(plan["packages"])
    try:
        confine_first(plan["first_memory"])
        prepare = importlib.import_module(f".{plan['service']}", __package__).load(plan["setup"])
        gc.freeze()
        supervisor = Supervisor(prepare, plan)
    except Refused as why:
        _say(b"0" + _line({"refused": str(why)}))
        return
    except Exception as error:
        _say(b"0" + _line({"broken": _described(error)}))
        return
    _say(b"0" + _line({"ready": True}))
    for count in sys.stdin.buffer:
        questions = [sys.stdin.buffer.readline() for _ in range(int(count))]
        for answer in supervisor.answers(questions):
            _say((b"1" if supervisor.is_spent() else b"0") + answer)
