"""One trial: jobs come in, faults happen at random instants, all heals, and the invariants are checked.

All that is random follows from the seed; what the operating system does in between does not, so a seed that
failed may have to be run a few times.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from sqlalchemy import select

from app.core.db import read_session
from app.core.tables import JobAttempt
from tests.chaos import faults, invariants
from tests.chaos.system import System, can_fill_a_disk
from tests.chaos.workload import Client, Sent, Workload
from trainer.spec.manifest import read_manifest

SETTLE_SECONDS = 120.0
#: For a system of the trials with the real trainer.
REAL_TRAINER = json.dumps([sys.executable, "-m", "trainer"])
#: Four steps of eight short responses each.
REAL_METHOD: dict[str, Any] = {
    "grader": {
        "type": "string_check",
        "name": "has an e",
        "input": "{{sample.output_text}}",
        "operation": "ilike",
        "reference": "e",
    },
    "algorithm": {"type": "policy_split", "eta": 0.3},
    "rollout": {"prompts_per_step": 2, "samples_per_prompt": 4, "max_response_tokens": 8},
    "checkpoint": {"interval": 1},
    "preflight": {"samples": 0},
}
REAL_STEPS = 4
REAL_FAULTS = ("kill_trainer", "fill_disk", "freeze_worker_and_trainers", "kill_everything", "kill_worker")


@dataclass(frozen=True)
class Trial:
    """What a trial was and how it went."""

    faults: list[str]
    jobs: int
    attempts: int
    ends: dict[str, int]
    """Of the attempts, by outcome and cause: what the faults did."""
    seconds: float


def run_trial(system: System, seed: int, *, jobs: int = 4) -> Trial:
    """A trial with the scripted trainer; raises AssertionError."""
    rng = Random(seed)
    names = faults.draw(system, rng, seed)
    plan = {
        "step_seconds": rng.uniform(0.02, 0.12),
        "checkpoint_every": rng.randint(1, 4),
        "repeat_events": rng.random() < 0.3,
        "child": rng.random() < 0.2,
    }
    system.script.write_text(json.dumps({"default": plan}))
    return _run(system, rng, seed, names, jobs, (10, 25), {})[0]


def run_real_trial(system: System, seed: int) -> Trial:
    """A trial with the real trainer: besides, all its jobs must end with the same weights, bit for bit."""
    rng = Random(seed)
    name = REAL_FAULTS[seed % len(REAL_FAULTS)]
    names = [name if name != "fill_disk" or can_fill_a_disk(system) else "kill_trainer"]
    trial, sent = _run(system, rng, seed, names, 2, (REAL_STEPS, REAL_STEPS), REAL_METHOD)
    weights = set()
    for one in sent:
        if not one.cancel_acknowledged:
            folder = system.runs / one.id / "checkpoints" / f"step-{REAL_STEPS}"
            weights.add(read_manifest(folder, verify=True).files["model.safetensors"])
    # The seed and the data are the same in every job, whatever happened to it and in whichever trial.
    system.weights |= weights
    assert len(system.weights) <= 1, f"jobs ended with different weights: {system.weights}"
    return trial


def _run(
    system: System,
    rng: Random,
    seed: int,
    names: list[str],
    jobs: int,
    steps: tuple[int, int],
    method: dict[str, Any],
) -> tuple[Trial, list[Sent]]:
    began = time.monotonic()
    label = f"{system.mark}-{seed}-{time.time_ns()}"
    client = Client(system, Random(seed + 1))
    workload = Workload(client, Random(seed + 2), label, jobs, steps, **method)
    workload.start()
    _strike(system, rng, names)
    workload.join()
    heal(system)
    if workload.error is not None:
        raise workload.error
    workload.settle(SETTLE_SECONDS)
    invariants.check(system, workload.sent, rollouts_a_step=8 if method else 2)
    ends = _ends(system, [sent.id for sent in workload.sent])
    seconds = round(time.monotonic() - began, 1)
    return Trial(names, len(workload.sent), sum(ends.values()), ends, seconds), workload.sent


def _ends(system: System, jobs: list[str]) -> dict[str, int]:
    with read_session(system.database) as session:
        rows = session.execute(
            select(JobAttempt.outcome, JobAttempt.cause).where(JobAttempt.job_id.in_(jobs))
        )
        return dict(Counter(f"{outcome}: {cause}" for outcome, cause in rows))


def _strike(system: System, rng: Random, names: list[str]) -> None:
    """The faults, each at its own instant and so perhaps at the same time."""
    errors: list[BaseException] = []

    def strike(name: str, after: float, own: Random) -> None:
        time.sleep(after)
        try:
            faults.FAULTS[name](system, own)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=strike, args=(name, rng.uniform(0.2, 3.0), Random(rng.random())), name=name)
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def heal(system: System) -> None:
    """Every component runs again: what one fault started, another one may have killed."""
    for name in system.names:
        if (pid := system.pid(name)) is not None:
            os.kill(pid, signal.SIGCONT)
    system.start()
    system.wait_until_up()
