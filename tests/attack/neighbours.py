"""What one user may ask that others would wait for, while somebody else asks for health and for models."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.attack import bystander
from tests.attack.attempt import Attempt

#: The most that others may wait, in seconds.
LIMIT = 0.1
#: How long they are watched while nobody attacks.
BASELINE_SECONDS = 10.0
_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
_SLEEPER = {
    "type": "python",
    "name": "sleeper",
    "source": "import time\ndef grade(sample, item):\n    time.sleep(5)\n    return 1.0",
}
_QUICK = {"type": "string_check", "name": "x", "input": "a", "operation": "eq", "reference": "a"}


class Neighbour:
    """Who asks too much: with a key of their own, or without where there are no keys."""

    def __init__(self, base: str, key: str | None):
        self._netloc = urlsplit(base).netloc
        self._headers = {"content-type": "application/json"}
        if key is not None:
            self._headers["authorization"] = f"Bearer {key}"

    def post(self, path: str, body: Any, seconds: float = 60.0) -> int:
        """The status; 0 where this client left first."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self._netloc, timeout=seconds)
        try:
            connection.request("POST", path, content, self._headers)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def at_once(self, count: int, path: str, body: Any, seconds: float) -> list[int]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.post(path, body, seconds), range(count)))


def attack(base: str, key: str | None, other_key: str | None) -> Iterator[Attempt]:
    """Each in turn, after a while without any; ``other_key`` is of a project that waits for none of it."""
    one = Neighbour(base, key)
    keys = json.dumps(_CHAT | {f"key number {n}": n for n in range(200_000)}).encode()
    chat, grade = "/v1/chat/completions", "/v1/fine_tuning/alpha/graders/run"
    run = {"grader": _SLEEPER, "model_sample": "x"}
    tried: dict[str, Callable[[], list[int]]] = {
        "nobody (baseline)": _nothing,
        "50 chats without a model": lambda: [one.post(chat, {}) for _ in range(50)],
        "a stop text of 5,000 characters": lambda: [one.post(chat, _CHAT | {"stop": "x" * 5000})],
        "a chat with 200,000 unknown keys": lambda: [one.post(chat, keys)],
        "60 sleeping graders/run": lambda: one.at_once(60, grade, run, 8.0),
        "30 graders/run, all abandoned": lambda: one.at_once(30, grade, run, 0.5),
        "grading by another project afterwards": lambda: [
            Neighbour(base, other_key).post(grade, run | {"grader": _QUICK})
        ],
        "an experiment of 10,000 kinds of job": lambda: [one.post("/v1/experiments", _experiment())],
        "300 clients with heads that do not end": lambda: _slow(base, 300),
    }
    for name, work in tried.items():
        yield _while_others_ask(base, other_key, name, work)


def _nothing() -> list[int]:
    time.sleep(BASELINE_SECONDS)
    return []


def _experiment() -> dict[str, Any]:
    environment = {"type": "environment", "task": "chain_sum"}
    return {
        "name": "x",
        "model": "tiny",
        "arms": [{"name": f"a{n}", "algorithm": {"type": "grpo"}} for n in range(100)],
        "tasks": [{"name": f"t{n}", "environment": environment} for n in range(100)],
        "seeds": [0],
        "budget": {"steps": 1},
    }


def _slow(base: str, count: int) -> list[int]:
    """The statuses with which they were let go, within 20 s."""
    parts = urlsplit(base)
    connections = [socket.create_connection((parts.hostname, parts.port)) for _ in range(count)]
    for one in connections:
        one.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        one.settimeout(20)
    found = []
    for one in connections:
        with one, suppress(OSError):
            found.append(int(one.recv(64).split(b" ")[1]))
    return found if len(found) == count else [0]


def _while_others_ask(base: str, key: str | None, name: str, work: Callable[[], list[int]]) -> Attempt:
    waits: list[float] = []
    with _bystander(base, key, waits):
        began = time.monotonic()
        statuses = work()
        seconds = time.monotonic() - began
    said = ", ".join(f"{statuses.count(one)} × {one or 'left'}" for one in sorted(set(statuses)))
    waits.sort()
    shares = {"median": waits[len(waits) // 2], "99 %": waits[len(waits) * 99 // 100], "most": waits[-1]}
    waited = ", ".join(f"{name} {share * 1000:.0f}" for name, share in shares.items())
    seen = f"{seconds:.1f} s [{said}]; others waited, in ms: {waited} ({len(waits)} times)"
    return Attempt("neighbour", name, waits[-1] < LIMIT, f"{seen}; load {os.getloadavg()[0]:.1f}")


@contextmanager
def _bystander(base: str, key: str | None, waits: list[float]) -> Iterator[None]:
    """Within the block somebody asks; afterwards ``waits`` has the seconds of each answer."""
    command = [sys.executable, "-I", str(Path(bystander.__file__)), base, key or ""]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()
            waits += json.loads(process.stdout.readline() or "[]")
