"""Several ranks train as one does; they stop, go on and fail together."""

import os
import pickle
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.groups import load_tiny_policy
from tests.fixtures.launched import on_ranks
from tests.fixtures.runs import (
    events_of,
    rank_processes,
    reproducible,
    tiny_spec,
    torchrun_trainer,
    wait_for_event,
    write_rows,
)
from tests.trainer.ranked_gradients import CASES, gradients
from trainer.distributed.peer_monitor import PeerMonitor
from trainer.distributed.ranks import JoinedRanks, Ranks
from trainer.errors import TrainerError, rank_lost
from trainer.graders.spec import StringCheckGrader
from trainer.loop import Run
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EventWriter, Failed, Finished, Rollouts, Started, StepMetrics, Stopped
from trainer.spec.manifest import read_manifest
from trainer.spec.run import RolloutSpec, RunSpec

STEPS = 20


@pytest.fixture(scope="module")
def on_two_ranks(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each of two ranks finds in every case of ``ranked_gradients``."""
    out = tmp_path_factory.mktemp("ranks")
    on_ranks(2, "tests.trainer.ranked_gradients", str(tiny_model), str(out))
    return [torch.load(out / f"rank-{rank}.pt") for rank in range(2)]


def test_what_one_rank_needs_is_made_on_the_first_alone(on_two_ranks: list[dict]):
    """Graders: their sandboxes, connections and threads."""
    assert [of_rank["on_first"] for of_rank in on_two_ranks] == [
        {"has": "it", "made": [0]},
        {"has": "a stand-in", "made": []},
    ]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("rank 1 failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "out_of_memory"),
        ("a collective operation failed: NCCL error: out of memory", "out_of_memory"),
        ("rank 1 failed: MemoryError: ", "out_of_memory"),
        ("rank 1 has died", "rank_lost"),
    ],
)
def test_a_rank_without_memory_is_told_as_that_by_the_others(reason: str, code: str):
    assert rank_lost(reason).code == code


def test_memory_that_runs_out_in_a_collective_is_not_a_lost_peer(connected):
    """torch's error for it is a RuntimeError, as is that of a peer that has gone."""
    one, _ = connected
    ranks = object.__new__(JoinedRanks)
    ranks._monitor = PeerMonitor({1: one}, lambda reason: None)
    with pytest.raises(torch.OutOfMemoryError), ranks._joint():
        raise torch.OutOfMemoryError("CUDA out of memory")
    ranks._monitor.close()


@pytest.mark.parametrize("name", CASES)
def test_r12_two_ranks_have_the_gradients_of_one(tiny_model: Path, on_two_ranks: list[dict], name: str):
    """Of two updates; loss, metrics and all responses' entropies too; the same to the bit on both ranks."""
    alone = gradients(load_tiny_policy(tiny_model), name)
    first, second = (of_rank[name] for of_rank in on_two_ranks)
    assert alone.keys() == first.keys() == second.keys()
    assert any(key.startswith("1/") and bool(value.any()) for key, value in first.items())
    for key, expected in alone.items():
        if isinstance(expected, torch.Tensor):
            assert torch.equal(first[key], second[key]), key
            assert torch.allclose(first[key], expected, rtol=1e-6, atol=1e-9), key
        else:
            assert first[key] == second[key] == pytest.approx(expected, rel=1e-6, abs=1e-9), key


def test_shares_are_contiguous_even_and_everything():
    for world in (1, 2, 3, 8):
        for count in range(12):
            ranks = [Ranks() for _ in range(world)]
            for number, one in enumerate(ranks):
                one.rank, one.world = number, world
            shares = [list(one.share(range(count))) for one in ranks]
            assert [item for share in shares for item in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- whole runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    data = write_rows(tmp_path_factory.mktemp("rows") / "data.jsonl")
    rollout = RolloutSpec(prompts_per_step=3, samples_per_prompt=4, max_response_tokens=16)
    evaluation = EvaluationSpec(max_items=2)
    return tiny_spec(tiny_model, data, rollout=rollout, evaluation=evaluation, total_steps=STEPS)


@pytest.fixture(scope="module")
def whole(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on two ranks that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = torchrun_trainer(spec, folder)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return folder


def only(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_on_two_ranks_tells_everything_once(spec: RunSpec, whole: Path, tmp_path: Path):
    """In step 1 the numbers are those of one process; later, roundings may have sampled other tokens."""
    events = events_of(whole)
    assert [e.step for e in only(events, StepMetrics)] == list(range(STEPS + 1))
    assert [e.step for e in only(events, Rollouts)] == list(range(1, STEPS + 1))
    assert (len(only(events, Started)), isinstance(events[-1], Finished)) == (1, True)
    read_manifest(whole / f"checkpoints/step-{STEPS}", verify=True)
    assert not list(whole.rglob("*.tmp*"))
    short = spec.model_copy(update={"total_steps": 1})
    with EventWriter(tmp_path / "events.jsonl") as writer:
        assert Run(short, tmp_path, writer).run()
    alone = events_of(tmp_path)
    for one, two in zip(only(alone, StepMetrics), only(events, StepMetrics), strict=False):
        expected = {n: v for n, v in reproducible(one).items() if not (one.step and n.startswith("eval/"))}
        found = {name: reproducible(two)[name] for name in expected}
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    texts = [[r.response for r in only(told, Rollouts)[0].rollouts] for told in (alone, events)]
    assert texts[0] == texts[1]


def test_ranks_stop_are_killed_and_go_on_bit_for_bit(spec: RunSpec, whole: Path, tmp_path: Path):
    """SIGTERM to torchrun, the same command, SIGKILL to all, the same command again."""
    process = torchrun_trainer(spec, tmp_path)
    wait_for_event(process, tmp_path, lambda e: isinstance(e, StepMetrics) and e.step >= 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    stopped = events_of(tmp_path)[-1]
    assert isinstance(stopped, Stopped), output
    assert 2 <= stopped.step < STEPS
    process = torchrun_trainer(spec, tmp_path)
    wait_for_event(process, tmp_path, lambda e: isinstance(e, StepMetrics) and e.step >= stopped.step + 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=100)
    process = torchrun_trainer(spec, tmp_path)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    events = events_of(tmp_path)
    begun = [number for number, event in enumerate(events) if isinstance(event, Started)]
    assert len(begun) == 3
    merged: dict[int, dict[str, float]] = {}
    for start, end in zip(begun, [*begun[1:], len(events)], strict=True):
        steps = [event.step for event in only(events[start:end], StepMetrics)]
        assert len(steps) == len(set(steps))
        merged |= {event.step: reproducible(event) for event in only(events[start:end], StepMetrics)}
    assert merged == {event.step: reproducible(event) for event in only(events_of(whole), StepMetrics)}
    one, other = (load_file(f / f"checkpoints/step-{STEPS}/model.safetensors") for f in (whole, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- failures: without torchrun, which would end the others ------------------------------------------------


@pytest.mark.parametrize("dying", [0, 1])
def test_a_rank_that_dies_ends_the_other(spec: RunSpec, tmp_path: Path, dying: int):
    processes = rank_processes(spec.model_copy(update={"total_steps": 100_000}), tmp_path)
    wait_for_event(processes[0], tmp_path, lambda e: isinstance(e, StepMetrics) and e.step >= 1)
    survivor = processes[1 - dying]
    processes[dying].kill()
    output, _ = survivor.communicate(timeout=15)
    processes[dying].communicate()
    assert survivor.returncode == 1, output
    assert f"rank {dying} on {socket.gethostname()} has died" in output
    last = events_of(tmp_path)[-1]
    if dying == 1:
        assert isinstance(last, Failed) and last.code == "rank_lost"
    else:
        assert not only(events_of(tmp_path), Failed)


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    with one, other:
        yield one, other


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [(None, "rank 1 has died"), ("rank 1 failed: out of memory", "rank 1 failed: out of memory")],
)
def test_a_rank_that_does_not_notice_a_loss_is_ended(connected, last_words: str | None, reason: str):
    """One that samples, say, or waits in a collective operation that nothing breaks off."""
    one, other = connected
    ended: queue.Queue[str] = queue.Queue()
    watching = PeerMonitor({1: one}, ended.put)
    if last_words is None:
        other.close()
    else:
        PeerMonitor({0: other}, ended.put).close(last_words)
    assert watching.reason() == reason
    assert ended.get(timeout=10) == reason


def test_one_that_notices_ends_by_itself_and_a_farewell_is_no_loss(connected):
    one, other = connected
    ended: queue.Queue[str] = queue.Queue()
    watching, leaving = PeerMonitor({1: one}, ended.put), PeerMonitor({0: other}, ended.put)
    leaving.close()
    assert watching.reason() is None  # after the grace period
    watching.close()
    for thread in threading.enumerate():
        if thread.name == "peer-monitor":
            thread.join(timeout=10)
            assert not thread.is_alive()
    assert ended.empty()


def test_what_fails_once_fails_on_all_ranks_with_its_own_reason(spec: RunSpec, tmp_path: Path):
    """Grading happens on the first rank alone."""
    broken = StringCheckGrader(input="{{sample.output_json.x}}", reference="1")
    processes = rank_processes(spec.model_copy(update={"grader": broken}), tmp_path)
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], outputs
    assert all("the grader failed on all" in output for output in outputs)
    last = events_of(tmp_path)[-1]
    assert isinstance(last, Failed) and last.code == "grader_failed"


def test_a_spec_that_cannot_work_is_refused_by_all(spec: RunSpec, tmp_path: Path):
    model = spec.model.model_copy(update={"path": str(tmp_path)})
    processes = rank_processes(spec.model_copy(update={"model": model}), tmp_path)
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    (failed,) = only(events_of(tmp_path), Failed)
    assert (failed.code, failed.param) == ("invalid_spec", "model.path")


def test_errors_of_the_trainer_travel_whole():
    again = pickle.loads(pickle.dumps(TrainerError("no such thing", "grader")))
    assert (str(again), again.param) == ("no such thing", "grader")
