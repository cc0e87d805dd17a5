"""Does the runs that have no result yet, a few at a time, one thread each; stopped, it goes on later.

Results only accumulate (``study.results``): each is added when its run ends.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from study.design import chosen_learning_rate
from study.planned_run import PlannedRun
from study.results import add_result, read_results
from study.studies import RESULTS, prepare

#: Results of the runs that choose the small model's learning rate.
TUNING = RESULTS / "tuning.jsonl"
_PAUSE_POLL_SECONDS = 2.0
#: One thread, and the same instructions on every x86 processor with AVX2: without them the base model, and
#: each run, would have other bits on other kinds of machines, and a study done in pieces could not be pooled.
_REPRODUCIBLE = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}


def run_missing(
    runs: Sequence[PlannedRun],
    *,
    results: Path,
    folder: Path,
    workers: int = 2,
    hours: float | None = None,
    pause_file: Path | None = None,
) -> int:
    """Do the planned runs of one study that have no result; how many were done.

    Args:
        results: the file that gets a line a run.
        folder: gets the base model and the items.
        workers: runs at a time, each with one thread.
        hours: start none after so long.
        pause_file: start none while it exists, nor the making of the base model.
    """
    os.environ |= _REPRODUCIBLE  # inherited by the processes, which alone import torch
    while _paused(pause_file):
        time.sleep(_PAUSE_POLL_SECONDS)
    done_before = {one["hash"] for one in read_results(results)}
    missing = [run for run in runs if run.hash not in done_before]
    if not missing:
        return 0
    deadline = None if hours is None else time.monotonic() + hours * 3600
    done, waiting = 0, iter(missing)
    context = get_context("forkserver")
    context.set_forkserver_preload(["study.one_run"])
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(prepare, missing[0].study, folder).result()
        began = time.monotonic()
        active: set[Future[dict[str, Any]]] = set()
        exhausted = False
        while active or not exhausted:
            while not exhausted and len(active) < workers and not _paused(pause_file):
                run = None if deadline is not None and time.monotonic() > deadline else next(waiting, None)
                if run is None:
                    exhausted = True
                else:
                    active.add(pool.submit(_execute, run, folder))
            if not active:
                time.sleep(0 if exhausted else _PAUSE_POLL_SECONDS)
                continue
            finished, active = wait(active, timeout=_PAUSE_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for one in finished:
                result = one.result()
                add_result(result, results)
                done += 1
                rest = _seconds_left(time.monotonic() - began, done, len(missing))
                print(f"{_line(result, done, len(missing))}; {_about(rest)} left", flush=True)
    return done


def _execute(run: PlannedRun, folder: Path) -> dict[str, Any]:
    from study.one_run import execute  # torch, in the child alone

    return execute(run, folder)


def tuned_rate(tuning: Path = TUNING) -> float | None:
    """The learning rate of all arms, once the runs that choose it are done."""
    return chosen_learning_rate({one["hash"]: one for one in read_results(tuning)})


def _paused(pause_file: Path | None) -> bool:
    return pause_file is not None and pause_file.exists()


def _line(result: dict[str, Any], done: int, of: int) -> str:
    document = result["document"]
    name = f"{document['task']} {document['arm']} seed {document['seed']}"
    took = f"{result['wall_seconds']:.0f} s ({result['cpu_seconds']:.0f} s of CPU)"
    ended = f"{result['status']} in {took}" + (f" {result['error']}" if result["error"] else "")
    return f"[{done}/{of}] {result['hash']} {name}: {ended}"


def _seconds_left(spent: float, done: int, of: int) -> float:
    """What the rest takes at the pace so far."""
    return spent / done * (of - done)


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"about {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"about {minutes} min"
