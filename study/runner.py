"""Does the runs that have no result yet, a few at a time, one thread each; stopped, it goes on later.

A result is a file of its own, named by the run's hash and renamed into place when whole, so results only
accumulate, and those of two machines can be put together.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from study.design import chosen_learning_rate
from study.planned_run import PlannedRun
from study.studies import RESULTS, prepare

#: Results of the runs that choose the small model's learning rate.
TUNING = RESULTS / "tuning"
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
        results: gets a file a run.
        folder: gets the base model and the items.
        workers: runs at a time, each with one thread.
        hours: start none after so long.
        pause_file: start none while it exists, nor the making of the base model.
    """
    results.mkdir(parents=True, exist_ok=True)
    os.environ |= _REPRODUCIBLE  # inherited by the processes, which alone import torch
    while _paused(pause_file):
        time.sleep(_PAUSE_POLL_SECONDS)
    missing = [run for run in runs if not result_path(run, results).exists()]
    if not missing:
        return 0
    deadline = None if hours is None else time.monotonic() + hours * 3600
    done, waiting = 0, iter(missing)
    context = get_context("forkserver")
    context.set_forkserver_preload(["study.one_run"])
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        pool.submit(prepare, missing[0].study, folder).result()
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
                write_result(result, results)
                done += 1
                print(_line(result, done, len(missing)), flush=True)
    return done


def _execute(run: PlannedRun, folder: Path) -> dict[str, Any]:
    from study.one_run import execute  # torch, in the child alone

    return execute(run, folder)


def result_path(run: PlannedRun, results: Path) -> Path:
    """Where the run's result is, once it is there."""
    return results / run.task / f"{run.hash}.json"


def write_result(result: dict[str, Any], results: Path) -> None:
    """Put a result in its place, whole."""
    path = results / result["document"]["task"] / f"{result['hash']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    partial.replace(path)


def read_results(results: Path) -> Iterable[dict[str, Any]]:
    """Every result there is."""
    for path in sorted(results.glob("*/*.json")):
        yield json.loads(path.read_text())


def tuned_rate(tuning: Path = TUNING) -> float | None:
    """The learning rate of all arms, once the runs that choose it are done."""
    return chosen_learning_rate({one["hash"]: one for one in read_results(tuning)})


def _paused(pause_file: Path | None) -> bool:
    return pause_file is not None and pause_file.exists()


def _line(result: dict[str, Any], done: int, of: int) -> str:
    document = result["document"]
    name = f"{document['task']} {document['arm']} seed {document['seed']}"
    took = f"{result['wall_seconds']:.0f} s ({result['cpu_seconds']:.0f} s of CPU)"
    return f"[{done}/{of}] {result['hash']} {name}: {result['status']} in {took} {result['error'] or ''}"
