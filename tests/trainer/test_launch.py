"""``python -m trainer --ranks N``: one process for whoever started it, whatever becomes of the ranks."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
import torch

from tests.fixtures.forks import Fork
from tests.fixtures.runs import events_of, tiny_spec, wait_for_event, write_rows
from trainer.distributed.busy_gpus import busy_gpus, in_use
from trainer.distributed.ranks import Ranks
from trainer.distributed.same_code import check_same_code
from trainer.errors import InvalidSpec
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Failed, StepMetrics, Stopped
from trainer.spec.run import DiagnosticsSpec, RolloutSpec, RunSpec


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> RunSpec:
    return tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        validation_data=None,
        rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=2, max_response_tokens=4),
        evaluation=EvaluationSpec(),
        diagnostics=DiagnosticsSpec(interval=0),
        total_steps=100_000,
    )


class Launched:
    """Two ranks, and what they print."""

    def __init__(self, spec: RunSpec, folder: Path):
        folder.mkdir(exist_ok=True)
        (folder / "spec.json").write_text(spec.model_dump_json())
        self.log = folder / "log"
        arguments = ("--ranks", "2", "--spec", str(folder / "spec.json"), "--run-dir", str(folder))
        with self.log.open("wb") as output, Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), output.fileno(), output.fileno())
            self.process = Fork("trainer", *arguments, streams=streams)

    def poll(self) -> int | None:
        return self.process.poll()

    def communicate(self) -> tuple[str, None]:
        return self.log.read_text(), None

    @property
    def ranks(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return sorted(children, key=lambda one: (one.create_time(), one.pid))


def stepped(event: object) -> bool:
    return isinstance(event, StepMetrics) and event.step >= 1


def test_signals_reach_every_rank_and_the_code_is_the_trainers(spec: RunSpec, tmp_path: Path):
    """SIGUSR1 has all stacks written, SIGTERM has the run saved and stopped."""
    folder = tmp_path / "run"
    started = Launched(spec, folder)
    wait_for_event(started, folder, stepped)  # type: ignore[arg-type]
    stacks = [folder / "stacks-0.txt", folder / "stacks-0-rank1.txt"]
    started.process.send_signal(signal.SIGUSR1)
    seen = len([event for event in events_of(folder) if stepped(event)])
    wait_for_event(started, folder, lambda event: stepped(event) and event.step > seen + 1)  # type: ignore[arg-type,attr-defined]
    assert all("Current thread" in path.read_text() for path in stacks)
    started.process.terminate()
    assert started.process.wait(60) == 75, started.log.read_text()
    assert isinstance(events_of(folder)[-1], Stopped)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_loss_of_a_rank_is_told_with_its_host_whoever_is_left_to_tell_it(
    spec: RunSpec, tmp_path: Path, rank: int
):
    folder = tmp_path / "run"
    started = Launched(spec, folder)
    wait_for_event(started, folder, stepped)  # type: ignore[arg-type]
    ranks = started.ranks
    ranks[rank].kill()
    assert started.process.wait(30) == 1, started.log.read_text()
    assert not any(one.is_running() for one in ranks)
    last = events_of(folder)[-1]
    assert isinstance(last, Failed) and last.code == "rank_lost"
    host = socket.gethostname()
    assert last.message in (
        f"rank {rank} on {host} was ended by signal 9 (SIGKILL)",
        f"rank {rank} on {host} has died",
    )


def test_what_cannot_work_is_refused_once_and_told_line_by_line(spec: RunSpec, tmp_path: Path):
    folder = tmp_path / "run"
    model = spec.model.model_copy(update={"path": str(tmp_path / "nothing")})
    started = Launched(spec.model_copy(update={"model": model}), folder)
    assert started.process.wait(60) == 2
    (failed,) = [event for event in events_of(folder) if isinstance(event, Failed)]
    assert (failed.code, failed.param) == ("invalid_spec", "model.path")
    told = [line for line in started.log.read_text().splitlines() if "is not a model folder" in line]
    assert sorted(line[:9] for line in told) == ["[rank 0] ", "[rank 1] "]


class Told(Ranks):
    """Ranks of which the others say what they have."""

    def __init__(self, *others: tuple[str, dict[str, str]]):
        self._others = others

    def gather(self, value):
        return [value, *self._others]


def test_a_host_with_other_code_is_named_before_anything_is_trained():
    same = {"policysplit": "0.1.0", "torch": "2.13.0"}
    check_same_code(Told(("b", same)), same)
    with pytest.raises(InvalidSpec, match=r"rank 2 on c has torch 2\.9\.0, but rank 0 on .* has 2\.13\.0"):
        check_same_code(Told(("b", same), ("c", same | {"torch": "2.9.0"})), same)
    check_same_code(Ranks())


@pytest.mark.parametrize(
    ("free", "told"),
    [
        (79, None),
        (73, None),
        (20, "GPU 3 of gpu-7 (rank 3) is in use by other processes: they use 60.0 of its 80.0 GiB."),
    ],
)
def test_a_gpu_that_others_use_is_told_of(free: int, told: str | None):
    assert in_use("GPU 3 of gpu-7 (rank 3)", free << 30, 80 << 30) == told
    assert busy_gpus(Ranks()) == [] or torch.cuda.is_available()
