"""API, worker and inference worker on hosts of their own: they share a database, a broker and a store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.test_serve import METHOD, ROWS
from tests.fixtures.broker import RedisServer
from tests.fixtures.databases import temporary_database
from tests.fixtures.engines import end, until
from tests.fixtures.forks import forked
from tests.fixtures.service import cli_environment, run_cli


@contextmanager
def host(part: str, folder: Path, shared: dict[str, str], **own: str) -> Iterator[subprocess.Popen[bytes]]:
    """``policysplit PART`` on a data directory of its own."""
    folder.mkdir(exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli", part],
            cwd=folder,
            env=cli_environment(**shared, POLICYSPLIT_DATA_DIR=str(folder), **own),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


@pytest.fixture
def shared(postgres_url: str, redis_server: RedisServer, bucket: str) -> Iterator[dict[str, str]]:
    """All that the hosts have in common."""
    with temporary_database(postgres_url, migrated=True) as database:
        yield {
            "DATABASE_URL": database,
            "BROKER_URL": redis_server.url,
            "POLICYSPLIT_STORE": bucket,
            "POLICYSPLIT_TRAINER_COMMAND": json.dumps(forked("trainer")),
            "POLICYSPLIT_ENGINE_COMMAND": json.dumps(forked("worker.inference.engines.transformers_server")),
            "POLICYSPLIT_INFERENCE_TOKEN": "between-gateway-and-engines",
            "POLICYSPLIT_HEARTBEAT_SECONDS": "0.5",
            "POLICYSPLIT_RECONCILE_SECONDS": "0.5",
            **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        }


def test_hosts_share_nothing_but_the_database_and_the_store(
    shared: dict[str, str], tmp_path: Path, tiny_model: Path
) -> None:
    api, worker, engine = (tmp_path / name for name in ("api", "worker", "inference"))
    shutil.copytree(tiny_model, api / "models" / "tiny")
    moved = run_cli("store", "migrate", "--json", POLICYSPLIT_DATA_DIR=str(api), **shared)
    assert json.loads(moved.stdout)["models"] == 1, moved.stderr

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with ExitStack() as running:
        running.enter_context(host("api", api, shared, POLICYSPLIT_PORT=str(port)))
        running.enter_context(host("inference", engine, shared))
        first = running.enter_context(host("worker", worker, shared))
        url = f"http://127.0.0.1:{port}"
        until(lambda: _is_ready(url))
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        running.callback(client.close)
        job = _train(client)
        assert (job.status, job.error) == ("succeeded", None)
        assert job.fine_tuned_model is not None

        for mode in ("", ":high-entropy"):
            answer = client.chat.completions.create(
                model=job.fine_tuned_model + mode,
                messages=[{"role": "user", "content": "say 1"}],
                max_tokens=4,
                seed=1,
            )
            assert answer.choices[0].message.content is not None
        (result,) = job.result_files
        assert client.files.content(result).read().startswith(b"step,")

        # Each has what it needs and no more.
        assert not list((worker / "runs").glob("ftjob-*"))
        assert not list((api / "cache").rglob("*.safetensors"))
        (weights,) = (engine / "cache" / "runs").rglob("model.safetensors")
        assert weights.parent.name == "step-2"

        # A job of the trained model on another host, after the first one is gone for good.
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        shutil.rmtree(worker)
        running.enter_context(host("worker", tmp_path / "second", shared))
        further = _train(client, model=job.fine_tuned_model)
        assert (further.status, further.error) == ("succeeded", None)

        assert client.models.delete(job.fine_tuned_model).deleted


def _train(client: openai.OpenAI, model: str = "tiny") -> Any:
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=model, training_file=file.id, validation_file=file.id, method=METHOD, seed=1
    )

    def ended() -> Any:
        now = client.fine_tuning.jobs.retrieve(job.id)
        return now if now.finished_at is not None else None

    return until(ended, 240)


def _is_ready(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/readyz")
    except httpx.TransportError:
        return False
    return answer.is_success and answer.json()["checks"]["store"] == "ok"
