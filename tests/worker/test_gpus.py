"""Slots and GPUs: who gets which, on machines with some, none and too few."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import gpus as core_gpus
from app.core.settings import Settings, get_settings
from worker import gpus
from worker.inference.engines import Host, vllm
from worker.inference.engines.vllm import VllmEngine
from worker.jobs.launcher import Trainer


@pytest.mark.parametrize(
    ("of_host", "slots", "share", "expected"),
    [
        ("0,1", 2, False, [("0",), ("1",)]),
        ("0,1,2,3", 2, False, [("0", "2"), ("1", "3")]),
        ("GPU-a, GPU-b, GPU-c", 2, False, [("GPU-a", "GPU-c"), ("GPU-b",)]),
        ("0", 3, True, [("0",), ("0",), ("0",)]),
        ("0,1", 3, True, [("0",), ("1",), ("0",)]),
        ("", 3, False, [(), (), ()]),
    ],
)
def test_each_slot_has_its_own(of_host: str, slots: int, share: bool, expected: list[tuple[str, ...]]):
    assert gpus.shares(gpus.inventory(Settings(gpus=of_host)), slots, share) == expected


@pytest.mark.parametrize(
    ("named", "each", "expected"),
    [
        ("", 1, [{}]),
        ("0", 1, [{"CUDA_VISIBLE_DEVICES": "0"}] * 3),
        ("0,1", 1, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}] * 2),
        ("0,1,2,3", 2, [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}] * 2),
    ],
)
def test_engines_meet_only_where_there_are_more_of_them(
    named: str, each: int, expected: list[dict[str, str]]
):
    slots = gpus.engine_slots(Settings(gpus=named, engine_gpus=each))
    assert [slots.environment(*slots.take_anyway(each)) for _ in expected] == expected


def test_the_environment_names_them_where_the_setting_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpus.inventory(Settings(gpus=None)) == ["3", "5"]
    assert gpus.inventory(Settings(gpus="7")) == ["7"]


def test_the_driver_names_them_where_nothing_else_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus.inventory(Settings()) == ["GPU-1", "GPU-2"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2; exit 9\n")
    assert gpus.inventory(Settings()) == []


@pytest.fixture
def two_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POLICYSPLIT_GPUS", "4,6")
    monkeypatch.setenv("POLICYSPLIT_WORKER_SLOTS", "2")
    for cached in (get_settings, gpus.slots):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (get_settings, gpus.slots):
        cached.cache_clear()


#: Says what it sees, and waits to be ended.
SAYS = [
    sys.executable,
    "-c",
    "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); os.read(0, 1)",
]


def seen(run_dir: Path, log: str) -> str:
    while not (text := (run_dir / log).read_text()):
        os.sched_yield()
    return text.strip()


@pytest.mark.usefixtures("two_slots")
def test_what_runs_at_a_time_never_meets_on_one(tmp_path: Path):
    """Jobs and replays alike; what a slot gives back the next one has."""
    for name in ("job", "replay", "next"):
        (tmp_path / name).mkdir()
    job = Trainer.start(SAYS, tmp_path / "job", 1)
    replay = Trainer.start_replay(SAYS, tmp_path / "replay", 3)
    try:
        assert seen(tmp_path / "job", "trainer-1.log") == "4"
        assert seen(tmp_path / "replay", "replay-3.log") == "6"
        job.close()
        job = Trainer.start(SAYS, tmp_path / "next", 1)
        assert seen(tmp_path / "next", "trainer-1.log") == "4"
    finally:
        job.close()
        replay.close()


def test_a_worker_with_more_slots_than_gpus_does_not_start(tmp_path: Path):
    environment = {
        **os.environ,
        "POLICYSPLIT_DATA_DIR": str(tmp_path),
        "POLICYSPLIT_GPUS": "0,1",
        "POLICYSPLIT_WORKER_SLOTS": "3",
    }
    command = [sys.executable, "-m", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "POLICYSPLIT_WORKER_SLOTS is 3, but there are 2 GPUs here (0, 1)" in ended.stderr
    assert "POLICYSPLIT_GPU_SHARE=true" in ended.stderr


def on_gpus(settings: Settings) -> VllmEngine:
    """As on a host with GPUs, whichever vLLM is installed here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm, "_is_installed", lambda name: name == "vllm")
        return VllmEngine(settings)


def parallel_of(engine: VllmEngine, model: Path) -> int:
    """Over how many GPUs vLLM is told to divide it."""
    command, option = engine.launch(Host(model), model / "http").command, "--tensor-parallel-size"
    return int(command[command.index(option) + 1]) if option in command else 1


@pytest.mark.parametrize(
    ("gibibytes", "dtype", "wanted"),
    [(14, "bfloat16", 1), (15, "bfloat16", 2), (28, "float32", 1), (70, "bfloat16", 8), (900, "bfloat16", 8)],
)
def test_vllm_has_the_fewest_gpus_that_a_model_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gibibytes: int, dtype: str, wanted: int
):
    """Of eight with 20 GiB each, of which the smallest has 19.9: 2 are for the cache, 3 are kept."""
    model, program = tmp_path / "model", tmp_path / "nvidia-smi"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"num_attention_heads": 32, "dtype": dtype}))
    with (model / "model.safetensors").open("wb") as weights:
        weights.truncate(gibibytes << 30)
    rows = "".join(f"{index}, GPU-{index}, {20480 - 100 * (index == 3)}\n" for index in range(8))
    program.write_text(f"#!/bin/sh\ncat <<END\n{rows}8, GPU-8, 4096\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    settings = Settings(gpus="0,1,2,3,GPU-4,5,6,7", engine_command=["vllm"], engine_kv_cache_bytes=2 << 30)
    assert core_gpus.memories(settings) == [(20480 - 100 * (index == 3)) << 20 for index in range(8)]
    engine = on_gpus(settings)
    assert (engine.gpus(Host(model)), parallel_of(engine, model)) == (wanted, wanted)
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert on_gpus(settings).gpus(Host(model)) == 1, "what is not known is not divided"


@pytest.mark.parametrize(("heads", "given", "wanted"), [(8, 4, 4), (6, 4, 3), (7, 4, 1), (8, 1, 1)])
def test_vllm_divides_a_model_over_the_gpus_that_divide_its_heads(
    tmp_path: Path, heads: int, given: int, wanted: int
):
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
    engine = on_gpus(Settings(engine_gpus=given, engine_command=["vllm"]))
    assert engine.gpus(Host(tmp_path)) == given
    assert parallel_of(engine, tmp_path) == wanted
    option = "--tensor-parallel-size"
    engine._arguments = [f"{option}=2"]
    assert [one for one in engine.launch(Host(tmp_path), tmp_path / "http").command if option in one] == [
        f"{option}=2"
    ]
