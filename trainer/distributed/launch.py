"""The ranks of a run on one host, of which a worker knows one process: ``python -m trainer --ranks N``.

It starts them as ``torchrun --standalone`` does, with the same variables, but

- it ends with the exit code of the trainer, not with 0 or 1;
- the store at which ranks meet listens on loopback alone, not on every interface;
- what ranks print is passed on at once, with the rank in front;
- SIGTERM and SIGUSR1 reach every rank, and nothing is killed that still saves;
- a rank is a fork of the launcher, which has imported torch once for all of them and has run nothing of it.

::

    worker ─▶ launcher ──fork──▶ rank 0 … rank N-1      (each a trainer with RANK, WORLD_SIZE, …)
                 │  store on 127.0.0.1, of any free port; a pipe for what each rank prints
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.system.guard import end_with_parent

HOST = "127.0.0.1"
#: From the loss of a rank until the others are killed: they notice by themselves and say why
#: (``trainer.distributed.peer_monitor``), unless they were not joined yet.
LOST_SECONDS = 10.0
#: For what is left in a rank's pipe when the rank has ended; whoever it started may hold it open.
LAST_WORDS_SECONDS = 2.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_AWAITED = {*_PASSED_ON, signal.SIGCHLD}


@dataclass(frozen=True)
class Launched:
    """How the ranks ended: the first one's exit code, negative for a signal, and who was lost before."""

    exit_code: int
    lost: str | None


def hold_signals() -> None:
    """From here on signals wait for the launcher, also those that come while it imports."""
    for number in _PASSED_ON:
        signal.signal(number, lambda *_: None)
    # Waited for, not interrupted by: see _Launcher.run.
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)


def launch(ranks: int) -> Launched | None:
    """Become the launcher of so many ranks, and return when all have ended; None in each of the ranks.

    To be called after :func:`hold_signals`, by a process in which nothing of torch has run and no other
    thread is about to.
    """
    with socket.create_server((HOST, 0), backlog=max(128, ranks)) as listener:
        port = listener.getsockname()[1]
        pipes, pids = [], []
        for rank in range(ranks):
            reading, writing = os.pipe()
            if (pid := os.fork()) == 0:
                listener.close()
                for earlier in (*pipes, reading):
                    os.close(earlier)
                _become(rank, ranks, port, writing)
                return None
            os.close(writing)
            pipes.append(reading)
            pids.append(pid)
        return _Launcher(pids, pipes).run(listener)


def _become(rank: int, ranks: int, port: int, output: int) -> None:
    """Be that rank: its variables are torchrun's."""
    end_with_parent()
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        # The launcher has the store; the first rank is to open none.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    if sys.platform == "linux":  # all are here, and nobody else is to reach them
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    # Until the trainer has its own; a dump that is asked for earlier is asked for in vain.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)


class _Launcher:
    """The ranks by their process ids, in order, and what each prints."""

    def __init__(self, pids: list[int], pipes: list[int]):
        self._pids = pids
        self._codes: dict[int, int] = {}
        self._lost: str | None = None
        self._kill_at = float("inf")
        self._pumps = [
            threading.Thread(target=_pump, args=(pipe, rank), name=f"output-of-rank-{rank}", daemon=True)
            for rank, pipe in enumerate(pipes)
        ]

    def run(self, listener: socket.socket) -> Launched:
        """Hold the store and pass signals on until all ranks have ended."""
        from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

        # Its threads, and the pumps, inherit that signals are blocked: sigtimedwait gets them all.
        store = TCPStore(
            HOST,
            listener.getsockname()[1],
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        for pump in self._pumps:
            pump.start()
        self._reap()
        while len(self._codes) < len(self._pids):
            got = signal.sigtimedwait(_AWAITED, 1.0)
            if got is not None and got.si_signo in _PASSED_ON:
                self._send(got.si_signo)
            self._reap()
            if time.monotonic() >= self._kill_at:
                self._send(signal.SIGKILL)
        until = time.monotonic() + LAST_WORDS_SECONDS
        for pump in self._pumps:
            pump.join(max(0.0, until - time.monotonic()))
        del store
        return Launched(self._codes[0], self._lost)

    def _living(self) -> Iterable[int]:
        return [pid for rank, pid in enumerate(self._pids) if rank not in self._codes]

    def _send(self, number: int) -> None:
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        for rank, pid in enumerate(self._pids):
            if rank in self._codes:
                continue
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._note(rank, os.waitstatus_to_exitcode(status))

    def _note(self, rank: int, code: int) -> None:
        self._codes[rank] = code
        if code < 0 and self._lost is None and self._kill_at == float("inf"):
            name = signal.Signals(-code).name
            self._lost = f"rank {rank} on {socket.gethostname()} was ended by signal {-code} ({name})"
        if code != 0 and not self._stopped(code):
            self._kill_at = min(self._kill_at, time.monotonic() + LOST_SECONDS)

    @staticmethod
    def _stopped(code: int) -> bool:
        # What a rank ends with that was asked to stop; the others are saving.
        return code == 75


def _pump(pipe: int, rank: int) -> None:
    """Pass what the rank prints on, line by line."""
    front = f"[rank {rank}] ".encode()
    with os.fdopen(pipe, "rb") as lines:
        for line in lines:
            whole = front + line if line.endswith(b"\n") else front + line + b"\n"
            with contextlib.suppress(OSError):  # nobody reads: the ranks go on
                os.write(1, whole)
