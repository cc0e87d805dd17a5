"""Trainers without the seconds that importing torch takes: forked from a process that has imported it.

Each is the real ``python -m trainer`` in a session of its own, to be killed like any process. Nothing of
torch has run before the fork, so the children are as good as fresh ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

REPOSITORY = Path(__file__).parents[2]


class Nursery:
    """Starts trainers and waits for them; a context."""

    def __enter__(self) -> "Nursery":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def start(self, arguments: list[str], log: Path) -> int:
        """The process id of a new trainer, which is also its group's."""
        return self._ask({"arguments": arguments, "log": str(log)})

    def wait(self, pid: int) -> int:
        """The exit code once it has ended, negative for a signal."""
        return self._ask({"wait": pid})

    def _ask(self, request: dict[str, object]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _serve() -> None:
    import trainer.loop
    from trainer.__main__ import main

    assert trainer.loop
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    assert LlamaForCausalLM and PreTrainedTokenizerFast
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os.setsid()
            with Path(request["log"]).open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = 1
            try:
                code = main(request["arguments"])
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
