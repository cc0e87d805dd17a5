"""All APIs and workers are restarted one after the other under load: no request fails, and no job."""

import json
import threading
import time
from dataclasses import dataclass
from random import Random

import httpx

from tests.chaos import invariants
from tests.chaos.system import System
from tests.chaos.workload import Client, Sent, job_body

CLIENTS = 4


@dataclass(frozen=True)
class RollingRestart:
    """How it went."""

    pair: str
    requests: int
    moved: int
    """Requests that an API did not take, and the next one did: what a proxy does."""
    failed: int
    jobs: int
    seconds: float


class _Proxy:
    """Sends a request to the next API when one does not take it, as a proxy does; counts what then fails."""

    def __init__(self, system: System):
        self._urls = [system.url(name) for name in system.names if name.startswith("api")]
        self.requests = self.moved = self.failed = 0
        self._lock = threading.Lock()

    def request(self, method: str, path: str, turn: int, **options: object) -> httpx.Response | None:
        for number in range(len(self._urls) * 20):
            url = self._urls[(turn + number) % len(self._urls)]
            try:
                answer = httpx.request(method, f"{url}/v1{path}", timeout=30, **options)  # type: ignore[arg-type]
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # Refused, or closed without a word: nothing was done, or the key makes it one job.
                self._count(moved=1)
                time.sleep(0.05)
                continue
            self._count(requests=1, failed=int(answer.status_code >= 400))
            return answer
        self._count(requests=1, failed=1)
        return None

    def _count(self, requests: int = 0, moved: int = 0, failed: int = 0) -> None:
        with self._lock:
            self.requests += requests
            self.moved += moved
            self.failed += failed


def roll(system: System, seed: int = 0) -> RollingRestart:
    """Restart everything but the broker once under load; raises AssertionError."""
    rng = Random(seed)
    plan = {"step_seconds": 0.1, "checkpoint_every": 3}
    system.script.write_text(json.dumps({"default": plan}))
    file = Client(system, rng).upload()
    proxy, over, sent = _Proxy(system), threading.Event(), list[Sent]()

    def work(number: int) -> None:
        turn = number
        while not over.is_set():
            turn += 1
            if turn % 10 == number:
                key = {"Idempotency-Key": f"{system.mark}-roll-{number}-{turn}"}
                answer = proxy.request(
                    "POST", "/fine_tuning/jobs", turn, json=job_body(file, 12), headers=key
                )
                if answer is not None and answer.status_code == 200:
                    sent.append(Sent(answer.json()["id"], 12))
            elif sent:
                proxy.request("GET", f"/fine_tuning/jobs/{sent[-1].id}", turn)
            else:
                proxy.request("GET", "/fine_tuning/jobs", turn)
            over.wait(0.1)

    began = time.monotonic()
    clients = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for name in [name for name in system.names if name != "broker"]:
        over.wait(1.0)
        system.restart(name)
    over.set()
    for client in clients:
        client.join()
    waiting = Client(system, rng)
    for one in sent:
        while waiting.job(one.id)["status"] not in ("succeeded", "failed", "cancelled"):
            assert time.monotonic() - began < 300, f"{one.id} does not end"
            time.sleep(0.1)
    invariants.check(system, sent)
    assert proxy.failed == 0, f"{proxy.failed} of {proxy.requests} requests failed"
    seconds = round(time.monotonic() - began, 1)
    return RollingRestart(system.pair, proxy.requests, proxy.moved, proxy.failed, len(sent), seconds)
