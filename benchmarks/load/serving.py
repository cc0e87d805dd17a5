"""The gateway, an inference worker and an engine, on a database and a data directory of their own."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.checkpoints.repository import upsert_checkpoint
from app.cli.components import inference_command
from app.core.db import build_engine, read_session, write_session
from app.core.ids import new_job_id
from app.core.migrate import upgrade_to_head
from app.core.own_secrets import inference_token
from app.core.settings import Settings
from app.core.tables import DEFAULT_PROJECT, InferenceWorker, Job
from benchmarks.load.servers import our_api
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT

START_SECONDS = 600.0


@dataclass(frozen=True)
class Serving:
    """What runs. ``model`` has both modes."""

    url: str
    model: str
    worker_url: str
    token: str

    def engines(self) -> list[dict[str, Any]]:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.get(f"{self.worker_url}/engines", headers=headers).raise_for_status().json()


@contextlib.contextmanager
def serving(folder: Path, weights: Path, engine: str, arguments: str) -> Iterator[Serving]:
    """API, inference worker and engine, up during the block; ``weights`` is a model's folder."""
    database_url = f"sqlite:///{folder / 'bench.db'}"
    upgrade_to_head(database_url)
    database = build_engine(database_url)
    model = _add_model(database, folder, weights)
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "POLICYSPLIT_DATA_DIR": str(folder),
        "POLICYSPLIT_ENGINE": engine,
        "POLICYSPLIT_ENGINE_ARGUMENTS": arguments,
        "POLICYSPLIT_ENGINE_START_SECONDS": str(START_SECONDS),
    }
    with our_api(folder, database_url) as (url, _):
        worker = subprocess.Popen(inference_command(), env=environment)
        try:
            deadline = time.monotonic() + 60
            while not (found := _worker_url(database)):
                if time.monotonic() > deadline:
                    raise RuntimeError("the inference worker did not register within 60 s")
                time.sleep(0.1)
            yield Serving(url, model, found, inference_token(Settings(data_dir=folder)))
        finally:
            worker.terminate()
            worker.wait(30)
            database.dispose()


def _worker_url(database: Any) -> str | None:
    with read_session(database) as session:
        row = session.query(InferenceWorker).first()
        return None if row is None else row.url


def _add_model(database: Any, folder: Path, weights: Path) -> str:
    """A finished job with ``weights`` as its checkpoint, and the default prompt for its second mode."""
    job_id = new_job_id()
    checkpoint = folder / "runs" / job_id / "checkpoints" / "step-1"
    shutil.copytree(weights, checkpoint)
    job = Job(
        id=job_id,
        project_id=DEFAULT_PROJECT,
        request_sha256="0" * 64,
        created_at=time.time(),
        status="succeeded",
        model="bench",
        seed=0,
        method={},
        run_spec={},
        total_steps=1,
    )
    with write_session(database) as session:
        session.add(job)
        session.flush()
        row = upsert_checkpoint(
            session,
            job,
            step=1,
            path=str(checkpoint),
            high_entropy_prompt=DEFAULT_HIGH_ENTROPY_PROMPT,
            manifest_sha256="ab" * 32,
            metrics={},
        )
        return row.model
