"""One vLLM in a process of its own, and talking to several of them at once.

Of its own, because vLLM changes torch for the whole process it is in (threads, streams, process groups). A
guard ends it with the trainer, however that ends; the trainer ends it when it is stopped or hangs.
"""

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import psutil
import torch

from trainer.errors import EngineFailed
from trainer.rollout.vllm_protocol import Failed, Generate, Progress, Setup
from trainer.system.guarded import Guarded

NOT_INHERITED = {
    # torchrun tells a rank who it is; the engine's process is not a rank.
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    "TORCHELASTIC_USE_AGENT_STORE",
    # An older way to say kv_cache_bytes, which would win.
    "VLLM_CPU_KVCACHE_SPACE",
    # The trainer's allocator: vLLM's sleep frees memory by an allocator of its own, which refuses
    # expandable segments.
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"),
}
SECONDS_TO_END = 10.0
STDERR = 2
#: How often the process is looked at, and for how long it may be stopped (by SIGSTOP, a debugger).
LOOK_SECONDS, STOPPED_SECONDS = 1.0, 10.0
#: How long it may say nothing: while it starts or takes weights, while it samples, when a stop was asked for.
LOAD_SECONDS, SILENT_SECONDS, STOPPING_SECONDS = 1800.0, 600.0, 10.0


class Replica:
    """Starts the process, on ``gpus`` as CUDA_VISIBLE_DEVICES names them, and does not wait for it.

    Its first answer, to ``setup``, is there when it is ready.
    """

    def __init__(self, setup: Setup, gpus: str | None):
        self.connection, theirs = Pipe()
        environment = engine_environment(os.environ, setup, gpus, torch.get_num_threads())
        self._process = Guarded(
            engine_command(theirs.fileno()),
            stdout=STDERR,
            stderr=STDERR,
            environment=environment,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        # Also when nobody calls close: at the latest when the interpreter ends.
        self._end = weakref.finalize(self, _end_process, self._process, self.connection)
        self._heard = 0.0
        self._given_up = ""
        self.lost = False
        """It has ended, or is about to."""

    @property
    def process_id(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self.lost = True
        self._end()

    def found_lost(self) -> EngineFailed | None:
        """How it ended since it last answered, if it did; to be asked of one that has nothing to answer."""
        if self.lost or not self.connection.poll():
            return None
        return self.loss()

    def heard(self) -> None:
        """It has just said something."""
        self._heard = time.monotonic()

    def loss(self) -> EngineFailed:
        """End what is left of a process that says nothing any more; why it does."""
        self.lost = True
        code = self._process.close()
        how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
        if self._given_up:
            how = f"{self._given_up} and was ended"
        return EngineFailed(f"the rollout engine's process {how}; its log is on stderr")

    @contextmanager
    def watched(self, limit: float, stopping: Callable[[], bool]) -> Iterator[None]:
        """Within the block the process is ended when it is stopped or says nothing.

        By a thread: the block may be writing to a pipe that nobody reads, or reading half a message.
        """
        over = threading.Event()
        self.heard()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                silent = time.monotonic() - self._heard
                if silent > STOPPED_SECONDS and _is_stopped(self._process.pid):
                    self._given_up = "was stopped (SIGSTOP)"
                elif silent > (STOPPING_SECONDS if stopping() else limit):
                    self._given_up = f"reported nothing for {silent:.0f} s"
                else:
                    continue
                self._process.close()
                return

        thread = threading.Thread(target=watch, name="engine-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def exchange(
    asked: Mapping[Replica, object],
    stopping: Callable[[], bool],
    then_send: Callable[[Connection], None] | None = None,
    on_progress: Callable[[], None] | None = None,
) -> dict[Replica, object]:
    """Send each replica its message, and what belongs to it; every one's answer.

    The answer of one that ended is an EngineFailed, of one that failed its Failed.
    """
    answers: dict[Replica, object] = {}
    with ExitStack() as watches:
        for replica, message in asked.items():
            limit = SILENT_SECONDS if isinstance(message, Generate) else LOAD_SECONDS
            watches.enter_context(replica.watched(limit, stopping))
        for replica, message in asked.items():
            with suppress(OSError):  # it may have said why before it ended
                replica.connection.send(message)
                if then_send is not None:
                    then_send(replica.connection)
            replica.heard()
        waiting = {replica.connection: replica for replica in asked}
        while waiting:
            for connection in wait(list(waiting)):
                assert isinstance(connection, Connection)
                replica = waiting[connection]
                try:
                    answer = connection.recv()
                except (EOFError, OSError) as error:
                    answer = replica.loss()
                    answer.__cause__ = error
                if isinstance(answer, Progress):
                    replica.heard()
                    if on_progress is not None:
                        on_progress()
                    continue
                replica.lost |= isinstance(answer, Failed)
                answers[replica] = answer
                del waiting[connection]
    return answers


def engine_command(descriptor: int) -> list[str]:
    """What starts the process, whose end of the pipe is ``descriptor``."""
    safely = ["-P"] if sys.flags.safe_path else []  # as this process was started
    return [sys.executable, *safely, "-m", "trainer.rollout.vllm_process", str(descriptor)]


def engine_environment(
    environ: Mapping[str, str], setup: Setup, gpus: str | None, threads: int
) -> dict[str, str]:
    """The variables of an engine's process, from those of the trainer's."""
    environment = {name: value for name, value in environ.items() if name not in NOT_INHERITED}
    environment |= {
        # The engine and its scheduler in one process, where the weights can be reached.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(threads),
    }
    environment.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if setup.device_type == "cpu":
        # vLLM compiles two small functions with the C++ compiler even so: ten seconds, and nothing is faster.
        environment["TORCH_COMPILE_DISABLE"] = "1"
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    if setup.tensor_parallel > 1:
        # Where CUDA is in use, a fork cannot use it.
        environment["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    return environment


def _is_stopped(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


def _end_process(process: Guarded, connection: Connection) -> None:
    connection.close()
    process.wait(SECONDS_TO_END)
    process.close()
