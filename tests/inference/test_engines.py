"""Engines as supervised children: loaded once, evicted, restarted, and never left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from sqlalchemy import update

from app.core.db import write_session
from app.core.own_secrets import inference_token
from app.core.settings import Settings
from app.core.tables import InferenceWorker
from tests.app.test_monitoring import values
from tests.fixtures.engines import Deployment, engine_of, is_guard, until
from tests.inference.scripted_engine import DEAF
from trainer.system.guarded import guard_command
from worker.inference.child import EngineProcess
from worker.inference.engines.base import Host, Launch
from worker.inference.engines.transformers import TransformersEngine

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def deployment(scripted: Deployment) -> Deployment:
    """This file is about processes; what engines say is the subject of others."""
    return scripted


def ask(deployment: Deployment, model: str, **options: Any) -> Any:
    retries = options.pop("max_retries", 0)
    options = {"messages": HELLO, "max_tokens": 8, **options}
    return deployment.client(max_retries=retries).chat.completions.create(model=model, **options)


def weights(deployment: Deployment) -> int:
    return next(deployment.folder.glob("models/tiny/*.safetensors")).stat().st_size


def test_how_busy_engines_are_is_told_to_prometheus(deployment: Deployment):
    model = deployment.add_finished(seed=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    deployment.start_inference(INFERENCE_METRICS_PORT=str(port))
    ask(deployment, model)
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    assert values(text, "policysplit_requests_total", route="/samples", status="200") == [1]
    assert values(text, "policysplit_answer_seconds_count", route="/samples") == [1]
    assert values(text, "policysplit_engine_starts_total", outcome="ready") == [1]
    (folder,) = (engine["folder"] for engine in deployment.engines())
    for state in ("running", "waiting"):
        assert values(text, "policysplit_engine_requests", model=folder, state=state) == [0]
    assert min(values(text, "policysplit_engine_memory_bytes", model=folder)) > 0
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_cold_start_is_shared_and_the_least_recently_used_model_makes_room(deployment: Deployment):
    first, second = deployment.add_finished(seed=1), deployment.add_finished(seed=2)
    deployment.start_inference(ENGINE_MEMORY_BYTES=str(int(2.5 * weights(deployment))))

    def loaded() -> dict[str, int]:
        return {
            engine["folder"].split("/runs/ftjob-")[-1][:10]: engine["pid"] for engine in deployment.engines()
        }

    def part(model: str) -> str:
        return model.rsplit(":", 1)[1]

    with ThreadPoolExecutor(4) as pool:
        modes = [first, f"{first}:high-entropy"] * 2
        assert len(list(pool.map(lambda model: ask(deployment, model), modes))) == 4
    before = loaded()
    assert list(before) == [part(first)]
    ask(deployment, second)
    assert set(loaded()) == {part(first), part(second)}
    ask(deployment, first)
    evicted = loaded()[part(second)]
    ask(deployment, "tiny")  # needs room: the second was used least recently
    assert part(second) not in loaded()
    assert len(loaded()) == 2
    assert loaded()[part(first)] == before[part(first)]
    assert not psutil.pid_exists(evicted)
    until(lambda: len(deployment.workers()[0].loaded) == 2)


def test_each_engine_sees_the_gpus_that_the_fewest_others_see(deployment: Deployment):
    models = [deployment.add_finished(seed=seed) for seed in range(3)]
    deployment.start_inference(GPUS="GPU-a, GPU-b", ENGINE_MEMORY_BYTES=str(int(2.5 * weights(deployment))))

    def seen() -> dict[str, str]:
        return {
            engine["folder"].split("/runs/ftjob-")[-1][:10]: psutil.Process(engine["pid"]).environ()[
                "CUDA_VISIBLE_DEVICES"
            ]
            for engine in deployment.engines()
        }

    first, second, third = (model.rsplit(":", 1)[1] for model in models)
    ask(deployment, models[0])
    assert seen() == {first: "GPU-a"}
    ask(deployment, models[1])
    assert seen() == {first: "GPU-a", second: "GPU-b"}
    ask(deployment, models[2])  # the first makes room, on its GPU too
    assert seen() == {second: "GPU-b", third: "GPU-a"}


def test_engines_that_want_more_gpus_than_there_are_do_not_start(tmp_path: Path):
    environment = {
        **os.environ,
        "POLICYSPLIT_DATA_DIR": str(tmp_path),
        "POLICYSPLIT_GPUS": "0,1",
        "POLICYSPLIT_ENGINE_GPUS": "4",
    }
    command = [sys.executable, "-m", "worker.inference"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "POLICYSPLIT_ENGINE_GPUS is 4, but there are 2 GPUs here (0, 1): give at most 2" in done.stderr


def test_a_model_in_use_is_not_evicted_and_one_that_never_fits_is_refused(deployment: Deployment):
    model = deployment.add_finished(seed=1)
    size = weights(deployment)
    worker = deployment.start_inference(ENGINE_MEMORY_BYTES=str(int(1.5 * size)), ENGINE_START_SECONDS="60")
    stream = iter(ask(deployment, model, stream=True, max_tokens=600, temperature=0))
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(ask, deployment, "tiny")  # waits for the stream to end
        assert sum(len(chunk.choices) for chunk in stream) > 100
        assert other.result().mode == "normal"
    below = psutil.Process(worker.pid).children(recursive=True)
    worker.terminate()
    assert worker.wait(20) == 0
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert deployment.workers() == []
    deployment.start_inference(ENGINE_MEMORY_BYTES=str(size // 2))
    with pytest.raises(openai.APIStatusError) as caught:
        ask(deployment, model)
    assert (caught.value.status_code, caught.value.code) == (503, "insufficient_memory")


def test_a_killed_engine_is_replaced_and_its_stream_ends_with_an_error(deployment: Deployment):
    model = deployment.add_finished(seed=1)
    deployment.start_inference()
    before = ask(deployment, model, seed=3).choices[0].message.content
    stream = iter(ask(deployment, model, stream=True, max_tokens=1500, temperature=0))
    next(stream)
    (engine,) = deployment.engines()
    began = time.monotonic()
    engine_of(engine["pid"]).kill()
    with pytest.raises(openai.APIError, match="ended while answering"):
        for _ in stream:
            pass
    assert ask(deployment, model, seed=3, max_retries=2).choices[0].message.content == before
    assert time.monotonic() - began < 30
    (replaced,) = deployment.engines()
    assert replaced["pid"] != engine["pid"]
    # The guard killed, too, takes its engine along.
    child = engine_of(replaced["pid"])
    os.kill(replaced["pid"], signal.SIGKILL)
    child.wait(5)
    assert ask(deployment, model, seed=3, max_retries=2).choices[0].message.content == before


def test_an_engine_that_lives_but_cannot_be_reached_is_replaced(deployment: Deployment):
    """As vLLM's core is that outlived its server: nobody would be answered for ever."""
    model = deployment.add_finished(seed=1)
    deployment.start_inference()
    before = ask(deployment, model, seed=3).choices[0].message.content
    (engine,) = deployment.engines()
    unreachable = engine_of(engine["pid"])
    with pytest.raises(openai.InternalServerError) as raised:
        ask(deployment, model, messages=[{"role": "user", "content": DEAF}])
    assert raised.value.status_code == 503 and "ended while answering" in str(raised.value)
    assert ask(deployment, model, seed=3, max_retries=2).choices[0].message.content == before
    (replaced,) = deployment.engines()
    assert replaced["pid"] != engine["pid"]
    until(lambda: not unreachable.is_running(), 10)


def test_no_engine_outlives_a_killed_worker(deployment: Deployment):
    model = deployment.add_finished(seed=1)
    worker = deployment.start_inference()
    ask(deployment, model)
    below = psutil.Process(worker.pid).children(recursive=True)
    assert sorted(map(is_guard, below)) == [
        False,
        True,
        True,
    ]  # the engine, its guard and the guard's reaper
    worker.kill()
    worker.wait(20)
    assert not psutil.wait_procs(below, timeout=10)[1]
    # Its row stays until the heartbeat is stale; requests get an answer before and after.
    for stale in (False, True):
        if stale:
            with write_session(deployment.database) as session:
                session.execute(update(InferenceWorker).values(heartbeat_at=0.0))
        with pytest.raises(openai.InternalServerError) as caught:
            ask(deployment, model)
        assert (caught.value.status_code, caught.value.code) == (503, "no_inference_worker")
        assert int(caught.value.response.headers["retry-after"]) > 0


def test_what_an_engine_started_dies_with_it_even_if_its_guard_was_killed_with_the_worker(tmp_path: Path):
    """As vLLM's own processes would, an orphan in the engine's group outlives it otherwise."""
    started = tmp_path / "started"
    grandchild = "import os, time; open(os.environ['STARTED'], 'w').write(str(os.getpid())); time.sleep(600)"
    engine = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    process = subprocess.Popen(
        guard_command([sys.executable, "-c", engine], 1),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "STARTED": str(started)},
        start_new_session=True,
    )
    until(lambda: started.exists() and started.read_text())
    below = psutil.Process(process.pid).children(recursive=True)
    assert int(started.read_text()) in {one.pid for one in below}
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(below, timeout=10)[1]


def test_an_engine_that_is_killed_with_its_guard_has_ended_and_takes_along_what_it_started(tmp_path: Path):
    """As vLLM's core, which leaves the server's session and holds its output, would live on unnoticed."""
    started = tmp_path / "started"
    core = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    server = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {core!r}], start_new_session=True)"
    )

    class Scripted(TransformersEngine):
        def launch(self, host: Host, socket: Path) -> Launch:
            return Launch([sys.executable, "-c", server], tmp_path)

    async def end_all_at_once() -> tuple[psutil.Process, str]:
        engine = await EngineProcess.spawn(Scripted(Settings(data_dir=tmp_path)), Host(tmp_path))
        await asyncio.to_thread(until, lambda: started.exists() and started.read_text())
        left = psutil.Process(int(started.read_text()))
        others = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children(recursive=True)]
        others.remove(left)
        assert len(others) == 3
        for process in others:
            process.suspend()
        for process in others:
            process.kill()
        await asyncio.wait_for(engine.ended.wait(), 20)
        return left, engine.cause()

    left, cause = asyncio.run(end_all_at_once())
    assert not psutil.wait_procs([left], timeout=10)[1]
    assert cause == "signal 9"


def test_a_broken_checkpoint_gets_a_reason(deployment: Deployment):
    bad = deployment.add_finished()
    (config,) = (deployment.folder / "runs").glob(f"*{bad.rsplit(':', 1)[1]}*/checkpoints/*/config.json")
    config.write_text('{"model_type": "no-such-architecture"}')
    deployment.start_inference()
    with pytest.raises(openai.InternalServerError) as caught:
        ask(deployment, bad)
    assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")
    assert "no-such-architecture" in str(caught.value)
    assert "retry-after" in caught.value.response.headers
    again = time.monotonic()
    with pytest.raises(openai.InternalServerError, match="no-such-architecture"):
        ask(deployment, bad)
    assert time.monotonic() - again < 30


def test_weights_that_go_while_they_are_loaded_are_gone(deployment: Deployment):
    """As when retention removes a checkpoint just then: not the engine's own words about files."""
    model = deployment.add_finished(seed=1)
    engine = "import os, sys; os.remove(sys.argv[2] + '/config.json'); raise OSError('No file config.json')"
    deployment.start_inference(ENGINE_COMMAND=json.dumps([sys.executable, "-c", engine]))
    with pytest.raises(openai.NotFoundError, match="weights are gone") as caught:
        ask(deployment, model)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    # A worker that is asked all the same says that there is no model.
    folder = str(deployment.checkpoint_folder(model))
    body = {"folder": folder, "prompt": "x", "temperature": 1, "top_p": 1, "seed": 1, "stop": []}
    (worker,) = deployment.workers()
    right = {"authorization": f"Bearer {inference_token(Settings(data_dir=deployment.folder))}"}
    refused = httpx.post(f"{worker.url}/samples", json=body, headers=right)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "model_missing")


def test_the_shared_secret_keeps_others_out(deployment: Deployment):
    model = deployment.add_finished(seed=1)
    deployment.start_inference(INFERENCE_TOKEN="secret")  # the gateway has the one that it made itself
    with pytest.raises(openai.InternalServerError, match="POLICYSPLIT_INFERENCE_TOKEN"):
        ask(deployment, model)
    (worker,) = deployment.workers()
    assert httpx.get(f"{worker.url}/engines").status_code == 401
    right = {"authorization": "Bearer secret"}
    assert httpx.get(f"{worker.url}/engines", headers=right).json() == []


def test_an_engine_gets_no_secret_of_the_inference_worker(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
):
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "SITE"):
        monkeypatch.setenv(name, "sk")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    deployment.start_inference(ENGINE_ENVIRONMENT='["SITE"]')
    ask(deployment, deployment.add_finished(seed=1))
    engine = psutil.Process(deployment.engines()[0]["pid"])
    for process in (engine, *engine.children()):
        variables = process.environ()
        assert {name for name, value in variables.items() if value == "sk"} == {"SITE"}
        assert "DATABASE_URL" not in variables
        assert variables["NCCL_DEBUG"] == "INFO"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"INFERENCE_HOST": "0.0.0.0"}, "POLICYSPLIT_INFERENCE_TOKEN"),
        ({"INFERENCE_HOST": "0.0.0.0", "INFERENCE_TOKEN": "secret"}, "POLICYSPLIT_INFERENCE_URL"),
        ({"ENGINE": "abacus"}, "transformers"),
    ],
)
def test_settings_that_can_not_work_end_the_worker_at_once(
    deployment: Deployment, settings: dict[str, str], named: str, capfd: pytest.CaptureFixture[str]
):
    assert deployment.run("worker.inference", **settings).wait(20) == 2
    assert named in capfd.readouterr().err


def test_the_worker_process_has_no_torch(deployment: Deployment):
    code = (
        "import sys, worker.inference.__main__; "
        "sys.exit([name for name in ('torch', 'transformers') if name in sys.modules] or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
