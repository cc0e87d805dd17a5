"""The memory that a run tells of."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from trainer.system.memory import GIB, MemoryWatch

CPU = torch.device("cpu")
MORE = 256 << 20
#: Pages that come and go beside what a test allocates.
SLACK = 32 << 20


def resident(*engine_processes: int) -> float:
    """Bytes."""
    return MemoryWatch(CPU).of_step(engine_processes)["memory/resident_gib"] * GIB


@pytest.fixture
def engine_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds ``MORE`` bytes until its standard input ends."""
    script = f"import sys; held = b'x' * {MORE}; print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_it_is_what_is_resident_now():
    before = resident()
    held = torch.ones(MORE, dtype=torch.uint8)
    assert resident() - before == pytest.approx(MORE, abs=SLACK)
    del held
    assert resident() == pytest.approx(before, abs=SLACK), "and no peak"
    assert MemoryWatch(CPU).peak() >= before + MORE - SLACK


def test_the_engines_processes_count_while_they_live(engine_process: subprocess.Popen[bytes]):
    alone = resident()
    together = resident(engine_process.pid)
    assert alone + MORE < together < alone + MORE + SLACK
    engine_process.kill()
    engine_process.wait()
    assert resident(engine_process.pid) == pytest.approx(alone, abs=SLACK)


def test_a_cpu_has_no_gpu_memory():
    assert MemoryWatch(CPU).of_step(()).keys() == {"memory/resident_gib"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
def test_the_peak_of_a_gpu_is_a_steps_own_and_the_runs_stays():
    device = torch.device("cuda")
    watch = MemoryWatch(device)
    torch.cuda.empty_cache()
    watch.of_step(())
    held = torch.ones(MORE, dtype=torch.uint8, device=device)
    del held
    torch.cuda.empty_cache()
    large, small = (watch.of_step(())["memory/gpu_peak_gib"] * GIB for _ in range(2))
    assert large - small >= MORE
    assert watch.peak() == large
