"""Chat with a checkpoint while its engine, or the worker that runs it, is killed."""

import contextlib
import os
import signal
import time
from random import Random

import httpx

from app.checkpoints.naming import model_id
from app.checkpoints.repository import upsert_checkpoint
from app.core.db import write_session
from app.core.ids import new_job_id
from app.core.tables import DEFAULT_PROJECT, Job
from tests.chaos.system import Patience, System
from tests.fixtures.models import build_tiny_model

ANSWER_SECONDS = 90.0


def kill_engine(system: System, rng: Random) -> None:
    """The engine in the middle of answers, or the inference worker with it; answers come again."""
    if "inference" not in system.names:
        _add_model(system)
        system.names.append("inference")
        system.start("inference")
    _ask(system)
    with contextlib.suppress(httpx.TransportError):
        httpx.post(**_request(system, tokens=64), timeout=rng.uniform(0.05, 0.5))
    engines = [pid for pid, command in system.marked().items() if "./step-" in command]
    if rng.random() < 0.3:
        system.signal("inference", signal.SIGKILL)
        system.start("inference")
    else:
        for pid in engines:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _ask(system)


def _ask(system: System) -> None:
    """Return once both modes have answered."""
    patience = Patience(ANSWER_SECONDS)
    for mode in ("", ":high-entropy"):
        last = "nothing"
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(**_request(system, tokens=2, mode=mode), timeout=60)
                last = answer.text
                if answer.status_code == 200:
                    break
            if patience.over():
                raise AssertionError(f"no answer within {ANSWER_SECONDS:.0f} s; last: {last}")
            system.start("inference")
            time.sleep(0.2)


def _request(system: System, *, tokens: int, mode: str = "") -> dict:
    body = {"model": f"{_name(system)}{mode}", "max_tokens": tokens}
    body["messages"] = [{"role": "user", "content": "Hello"}]
    apis = [name for name in system.names if name.startswith("api") and system.pid(name)]
    return {"url": f"{system.url((apis or ['api-0'])[0])}/v1/chat/completions", "json": body}


def _name(system: System) -> str:
    return model_id(model="tiny", organization="policysplit", suffix=None, job_id=system.served)


def _add_model(system: System) -> None:
    """A finished job whose checkpoint is a real, tiny model, not on the disk that another fault may fill."""
    system.served = new_job_id()
    folder = system.folder / "data" / "served" / "step-1"
    build_tiny_model(folder, spread=0.3)
    with write_session(system.database) as session:
        job = Job(
            id=system.served,
            project_id=DEFAULT_PROJECT,
            request_sha256="0" * 64,
            created_at=time.time(),
            finished_at=time.time(),
            status="succeeded",
            model="tiny",
            seed=0,
            method={},
            run_spec={},
            total_steps=1,
            fine_tuned_model=_name(system),
        )
        session.add(job)
        session.flush()
        upsert_checkpoint(
            session,
            job,
            step=1,
            path=str(folder),
            high_entropy_prompt="Wander.",
            manifest_sha256="ab" * 32,
            metrics={},
        )
