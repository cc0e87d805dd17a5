"""Jobs that are sent to a system while it is being broken, as a patient client sends them."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.chaos.system import Patience, System

ACKNOWLEDGE_SECONDS = 60.0
FINAL = ("succeeded", "failed", "cancelled")
ROWS = "".join(
    f'{{"messages": [{{"role": "user", "content": "{n} + {n}"}}], "answer": "{2 * n}"}}\n' for n in range(8)
)


@dataclass
class Sent:
    """An acknowledged job and what became of the wishes about it."""

    id: str
    steps: int
    wish: str = "train"
    cancel_acknowledged: bool = False
    statuses: list[str] = field(default_factory=list)


class Client:
    """Asks any of the APIs, again and again until one answers."""

    def __init__(self, system: System, rng: Random):
        self._system, self._rng = system, rng
        self._urls = [system.url(name) for name in system.names if name.startswith("api")]

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The first answer that is not a server error; raises AssertionError after a minute without one."""
        patience = Patience(ACKNOWLEDGE_SECONDS)
        last = ""
        while not patience.over():
            url = f"{self._rng.choice(self._urls)}/v1{path}"
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.request(method, url, timeout=10, **options)
                if answer.status_code < 500:
                    return answer
                last = answer.text
            time.sleep(0.1)
        raise AssertionError(f"{method} {path}: no answer within {ACKNOWLEDGE_SECONDS:.0f} s; last: {last}")

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.request("GET", f"/fine_tuning/jobs/{job_id}")
        assert answer.status_code == 200, f"an acknowledged job is gone: {answer.text}"
        return answer.json()

    def upload(self) -> str:
        """The id of a training file."""
        files = {"file": ("train.jsonl", ROWS.encode())}
        answer = self.request("POST", "/files", files=files, data={"purpose": "fine-tune"})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def create(self, body: dict[str, Any], key: str) -> str:
        """The id of an acknowledged job; the key makes of many tries one job."""
        headers = {"Idempotency-Key": key}
        answer = self.request("POST", "/fine_tuning/jobs", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]


def job_body(file: str, steps: int, **reinforcement: Any) -> dict[str, Any]:
    grader = {
        "type": "string_check",
        "name": "exact",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
        "operation": "like",
    }
    method = {"grader": grader, "budget": {"steps": steps}, **reinforcement}
    return {
        "model": "tiny",
        "training_file": file,
        "seed": 1,
        "method": {"type": "reinforcement", "reinforcement": method},
    }


class Workload(threading.Thread):
    """Sends jobs over a few seconds, and cancels or pauses some of them."""

    def __init__(
        self, client: Client, rng: Random, label: str, jobs: int, steps: tuple[int, int], **method: Any
    ):
        super().__init__(name="workload")
        self.sent: list[Sent] = []
        self.error: BaseException | None = None
        self._client, self._rng, self._label = client, rng, label
        self._jobs, self._steps, self._method = jobs, steps, method

    def run(self) -> None:
        try:
            file = self._client.upload()
            for number in range(self._jobs):
                steps = self._rng.randint(*self._steps)
                body = job_body(file, steps, **self._method)
                sent = Sent(self._client.create(body, f"{self._label}-{number}"), steps)
                self.sent.append(sent)
                time.sleep(self._rng.uniform(0, 0.4))
                self._wish(sent)
        except BaseException as error:
            self.error = error

    def _wish(self, sent: Sent) -> None:
        drawn = self._rng.random()
        if drawn < 0.2:
            sent.wish = "cancel"
            answer = self._client.request("POST", f"/fine_tuning/jobs/{sent.id}/cancel")
            sent.cancel_acknowledged = answer.status_code == 200
        elif drawn < 0.4:
            sent.wish = "pause"
            self._client.request("POST", f"/fine_tuning/jobs/{sent.id}/pause")

    def settle(self, seconds: float) -> None:
        """Return when every job has come to its end; paused ones are resumed."""
        patience = Patience(seconds)
        waiting = list(self.sent)
        while waiting:
            for sent in list(waiting):
                status = self._client.job(sent.id)["status"]
                if not sent.statuses or sent.statuses[-1] != status:
                    sent.statuses.append(status)
                if status == "paused":
                    self._client.request("POST", f"/fine_tuning/jobs/{sent.id}/resume")
                elif status in FINAL:
                    waiting.remove(sent)
            if patience.over():
                told = [(sent.id, sent.statuses[-5:]) for sent in waiting]
                raise AssertionError(f"jobs that came to no end within {seconds:.0f} s: {told}")
            time.sleep(0.1)
