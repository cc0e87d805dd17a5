"""Runs on the hosts of a real Ray cluster, started by hand; test_ray_jobs has those of the service."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.forks import forked
from tests.fixtures.ray_nodes import RayNodes, needs_ray
from tests.fixtures.runs import events_of, rank_processes, tiny_spec, write_rows
from trainer.spec.events import Event, Failed, Finished, MessageEvent, StepMetrics, Stopped
from trainer.spec.run import RolloutSpec, RunSpec

pytestmark = [
    needs_ray,
    pytest.mark.skipif(
        os.environ.get("RAY") != "1",
        reason="minutes of a Ray cluster of three nodes: make test RAY=1",
    ),
]

T = TypeVar("T")
DRIVERS: list["subprocess.Popen[str]"] = []
#: Starts a process in a session of its own, says who they are, and waits.
WAITER = (
    "import os, pathlib, subprocess, sys, signal\n"
    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "folder = pathlib.Path(sys.argv[sys.argv.index('--run-dir') + 1])\n"
    "(folder / f'pids-{os.environ[\"RANK\"]}').write_text(f'{os.getpid()} {child.pid}')\n"
    "signal.sigwait([signal.SIGTERM])\n"
)


def gang(
    nodes: RayNodes, run_dir: Path, *options: str, spec: RunSpec | None = None, code: str = ""
) -> "subprocess.Popen[str]":
    """A driver on CPUs, whose ranks are trainers, or run ``code``."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "spec.json").write_text(spec.model_dump_json() if spec else "{}")
    program = [sys.executable, "-c", code] if code else forked("trainer")
    command = [
        sys.executable,
        "-P",
        "-m",
        "trainer.gang",
        "--cpu",
        *options,
        "--trainer",
        json.dumps(program),
    ]
    driver = subprocess.Popen(
        [*command, "--spec", str(run_dir / "spec.json"), "--run-dir", str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | nodes.environment,
    )
    DRIVERS.append(driver)
    return driver


@pytest.fixture(autouse=True)
def _no_driver_is_left() -> Iterator[None]:
    """One of a test that failed would have its hosts, and the next test would wait for them."""
    yield
    for driver in DRIVERS:
        driver.kill()
        driver.wait()
        assert driver.stdout is not None
        driver.stdout.close()
    DRIVERS.clear()


def said(run_dir: Path) -> list[str]:
    return [event.message for event in events_of(run_dir) if isinstance(event, MessageEvent)]


def until(look: Callable[[], T], seconds: float = 240.0) -> T:
    """What ``look`` returns once it is true: nothing tells of what processes of others do."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


def wait_for(driver: "subprocess.Popen[str]", run_dir: Path, condition: Callable[[Event], bool]) -> None:
    """Return once the run has told an event that ``condition`` holds for."""

    def told() -> bool:
        if any(condition(event) for event in events_of(run_dir)):
            return True
        assert driver.poll() is None, driver.communicate()[0]
        return False

    until(told)


@pytest.fixture(scope="module")
def spec(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    data = write_rows(tmp_path_factory.mktemp("rows") / "data.jsonl")
    rollout = RolloutSpec(prompts_per_step=3, samples_per_prompt=4, max_response_tokens=16)
    return tiny_spec(tiny_model, data, rollout=rollout, validation_data=None, total_steps=4)


def test_ranks_on_two_hosts_train_as_two_processes_do(ray_nodes: RayNodes, spec: RunSpec, tmp_path: Path):
    """To the bit: it is the same world, and only who starts it is another."""
    processes = rank_processes(spec, tmp_path / "by-hand")
    assert [process.communicate(timeout=250) and process.returncode for process in processes] == [0, 0]
    driver = gang(ray_nodes, tmp_path / "gang", "--ranks", "2", "--nodes", "2", spec=spec)
    output, _ = driver.communicate(timeout=250)
    assert driver.returncode == 0, output
    assert isinstance(events_of(tmp_path / "gang")[-1], Finished)
    hosts = [word for word in ("(one)", "(two)", "(three)") if word in said(tmp_path / "gang")[0]]
    assert len(hosts) == 2
    expected, found = (
        load_file(tmp_path / name / "checkpoints/step-4/model.safetensors") for name in ("by-hand", "gang")
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_host_that_is_lost_with_the_first_rank_is_told_by_the_driver(ray_nodes: RayNodes, tmp_path: Path):
    """Of ranks that know nothing of each other: the others are ended by it, with what they had started."""
    driver = gang(ray_nodes, tmp_path, "--ranks", "3", "--nodes", "3", "--attempt", "1", code=WAITER)
    until(lambda: len(list(tmp_path.glob("pids-*"))) == 3)
    first = said(tmp_path)[0].split("cluster: ")[1].split(": 0")[0].partition("(")[2].rstrip(")")
    ray_nodes.remove(first)
    began = time.monotonic()
    try:
        output, _ = driver.communicate(timeout=60)
        assert driver.returncode == 1 and time.monotonic() - began < 30, output
        last = events_of(tmp_path)[-1]
        assert isinstance(last, Failed) and last.code == "host_lost" and f"({first})" in last.message
        assert until(lambda: not processes_of(tmp_path), 10)
    finally:
        ray_nodes.add(first)


def test_ranks_give_their_stacks_and_stop_when_the_driver_is_asked(
    ray_nodes: RayNodes, spec: RunSpec, tmp_path: Path
):
    long = spec.model_copy(update={"total_steps": 100_000})
    driver = gang(ray_nodes, tmp_path, "--ranks", "2", "--nodes", "2", "--attempt", "3", spec=long)
    wait_for(driver, tmp_path, lambda e: isinstance(e, StepMetrics) and e.step >= 1)
    driver.send_signal(signal.SIGUSR1)
    for name in ("stacks-3.txt", "stacks-3-rank1.txt"):
        until(lambda name=name: "most recent call first" in (tmp_path / name).read_text(), 10)
    driver.terminate()
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 75, output
    stopped = events_of(tmp_path)[-1]
    assert isinstance(stopped, Stopped)
    assert (tmp_path / f"state/step-{stopped.step}").is_dir()


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """What lives that ranks have started."""
    pids = [int(pid) for told in run_dir.glob("pids-*") for pid in told.read_text().split()]
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def test_nothing_outlives_a_driver_that_is_killed(ray_nodes: RayNodes, tmp_path: Path):
    """On any host, whatever session it is in, within 10 s."""
    driver = gang(ray_nodes, tmp_path, "--ranks", "3", "--nodes", "3", code=WAITER)
    until(lambda: len(list(tmp_path.glob("pids-*"))) == 3)
    assert until(lambda: len(processes_of(tmp_path)) == 6, 10)
    driver.kill()
    driver.communicate()
    assert until(lambda: not processes_of(tmp_path), 10)


def test_all_or_none_are_placed_and_nobody_overtakes(ray_nodes: RayNodes, tmp_path: Path):
    """A gang of six waits for all six; a small one that came later and would fit waits behind it."""
    first, large, small = (tmp_path / name for name in ("first", "large", "small"))
    drivers = [gang(ray_nodes, first, "--ranks", "2", code=WAITER)]
    try:
        until(lambda: len(list(first.glob("pids-*"))) == 2)
        drivers.append(gang(ray_nodes, large, "--ranks", "6", code=WAITER))
        until(lambda: (large / "events.jsonl").exists() and said(large))
        assert said(large) == ["The job waits for 6 CPUs; the largest free block is 4."]
        drivers.append(gang(ray_nodes, small, "--ranks", "1", code=WAITER))
        until(lambda: (small / "events.jsonl").exists() and said(small))
        assert said(small) == ["The job waits for 1 CPU: other jobs are ahead of it."]
        assert not list(large.glob("pids-*"))
        drivers[1].terminate()
        assert drivers[1].wait(30) == 75
        until(lambda: list(small.glob("pids-*")), 30)
    finally:
        for driver in drivers:
            driver.terminate()
        for driver in drivers:
            driver.communicate(timeout=60)
