"""``python``: a stranger's ``grade(sample, item)``, in a pool of sandboxes that are started beforehand."""

import threading
from typing import Any

from trainer.errors import InvalidSpec
from trainer.graders.grade import ConcurrentGrader, Grade, GraderError, Sample
from trainer.graders.process import ChildDied, ChildTimedOut, cores
from trainer.graders.sandbox import NoIsolation, Sandbox, SandboxRefused, require_isolation
from trainer.graders.spec import PythonGrader
from trainer.graders.templates import parse_output

MAX_SANDBOXES = 16


def check_python(spec: PythonGrader) -> None:
    """Raise InvalidSpec where there is no isolation, or the source does not compile."""
    try:
        require_isolation()
    except NoIsolation as error:
        raise InvalidSpec(
            f"a python grader runs isolated or not at all, and this machine cannot isolate it: {error}",
            "grader",
        ) from None
    try:
        _start(spec).close()
    except (SandboxRefused, NoIsolation) as error:
        raise InvalidSpec(
            f"the source of the python grader does not load: {error}", "grader.source"
        ) from None


def _start(spec: PythonGrader) -> Sandbox:
    return Sandbox(spec.source, seconds=spec.timeout_seconds, memory_bytes=spec.memory_mb << 20)


class PythonSandboxes(ConcurrentGrader):
    """A sandbox a thread, and a thread a core. A sandbox that failed or was left untidy is replaced.

    Raises InvalidSpec where there is no isolation, or the source does not compile.
    """

    def __init__(self, spec: PythonGrader, sandboxes: int | None = None):
        check_python(spec)
        self._spec = spec
        self._sandboxes: dict[int, Sandbox] = {}
        count = sandboxes or min(cores(), MAX_SANDBOXES)
        super().__init__("python-grader", count)
        # Each thread starts its own: the kernel ends a sandbox with the thread that started it.
        ready = threading.Barrier(count)
        started = [self._threads.submit(self._warm_up, ready) for _ in range(count)]
        if failed := [problem for one in started if (problem := one.result())]:
            self.close()
            raise InvalidSpec(f"no sandbox could be started: {failed[0]}", "grader")

    def grade_one(self, sample: Sample) -> Grade:
        try:
            sandbox = self._sandbox()
            answer = sandbox.grade(_sample_for_source(sample.text), sample.item)
        except (NoIsolation, ChildDied, SandboxRefused) as error:
            self._discard()
            raise GraderError(f"the sandbox failed: {error}", "python_grader_server_error") from error
        except ChildTimedOut:
            self._discard()
            raise GraderError("the sandbox did not answer in time", "python_grader_server_error") from None
        if answer.get("spent"):
            self._discard()
        if "reward" not in answer:
            raise GraderError(str(answer.get("error")), "python_grader_runtime_error")
        reward = float(answer["reward"])
        return Grade(reward, {self._spec.name: reward})

    def close(self) -> None:
        super().close()
        for sandbox in self._sandboxes.values():
            sandbox.close()

    def _warm_up(self, ready: threading.Barrier) -> str | None:
        """Start this thread's sandbox, and keep the thread until all have started theirs; what went wrong."""
        problem = None
        try:
            self._sandbox()
        except (NoIsolation, SandboxRefused, OSError) as error:
            problem = str(error)
        ready.wait()
        return problem

    def _sandbox(self) -> Sandbox:
        """This thread's sandbox."""
        found = self._sandboxes.get(threading.get_ident())
        if found is None:
            found = self._sandboxes[threading.get_ident()] = _start(self._spec)
        return found

    def _discard(self) -> None:
        if (sandbox := self._sandboxes.pop(threading.get_ident(), None)) is not None:
            sandbox.close()


def _sample_for_source(text: str) -> dict[str, Any]:
    """What ``grade`` gets as its first argument."""
    try:
        parsed = parse_output(text)
    except GraderError:
        parsed = None
    message = {"role": "assistant", "content": text}
    return {
        "output_text": text,
        "output_json": parsed,
        "output_tools": [],
        "choices": [{"index": 0, "message": message}],
    }
