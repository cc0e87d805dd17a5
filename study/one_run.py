"""One run of the study from its document to its result, in a process of its own with one thread."""

import hashlib
import json
import platform
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from study.planned_run import PlannedRun
from study.studies import STUDIES, item_paths
from trainer.api import train
from trainer.errors import TrainerError
from trainer.spec.events import EvaluationOutcomes, Event, StepMetrics
from trainer.statistics.run_results import Point, summarised

_COSTS = {
    "samples_generated": "train/samples_generated",
    "tokens_generated": "train/tokens_generated",
    "tokens_trained": "train/tokens_trained",
    "seconds": "train/step_seconds",
}


def execute(run: PlannedRun, folder: Path) -> dict[str, Any]:
    """Train and measure; the result as it is committed. A run that fails is a result, too.

    ``folder`` has the base model (``model``) and the items. Nothing of the run stays on the disk.
    """
    torch.set_num_threads(1)
    started, spent = time.time(), time.process_time()
    told = _Told()
    result: dict[str, Any] = {"status": "succeeded", "error": None, "weights_sha256": None}
    with tempfile.TemporaryDirectory(prefix="study-run-") as scratch:
        try:
            done = train(
                run.spec(folder / "model", *item_paths(folder, run.task)),
                Path(scratch),
                STUDIES[run.study].reward(run.task),
                told.event,
            )
            assert done.checkpoint is not None
            result["weights_sha256"] = _sha256(done.checkpoint / "model.safetensors")
        except (TrainerError, RuntimeError, ValueError) as error:
            result |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    return {
        "hash": run.hash,
        "document": run.document,
        **result,
        **told.results(),
        "base_sha256": _sha256(folder / "model" / "model.safetensors"),
        "wall_seconds": round(time.time() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "machine": {"torch": torch.__version__, "python": platform.python_version(), "cpu": _cpu()},
        "commit": _commit(),
        "finished_at": int(time.time()),
    }


class _Told:
    """What a run's events said."""

    def __init__(self) -> None:
        self._series: dict[str, list[Point]] = defaultdict(list)
        self._outcomes: EvaluationOutcomes | None = None

    def event(self, event: Event) -> None:
        if isinstance(event, StepMetrics):
            for name, value in event.model_dump()["values"].items():
                self._series[name].append((event.step, value))
        elif isinstance(event, EvaluationOutcomes):
            self._outcomes = event

    def results(self) -> dict[str, Any]:
        curves, diagnostics = summarised(self._series)
        costs = {ours: sum(v for _, v in self._series.get(name, [])) for ours, name in _COSTS.items()}
        outcomes = None if self._outcomes is None else self._outcomes.model_dump(mode="json")["modes"]
        return {
            "outcomes": outcomes,
            "outcomes_sha256": hashlib.sha256(json.dumps(outcomes).encode()).hexdigest(),
            # The training curves have a point a step: every tenth is kept.
            "curves": {
                name: [(step, _short(v)) for step, v in points if name.startswith("eval/") or step % 10 == 0]
                for name, points in curves.items()
            },
            "diagnostics": {name: _short(value) for name, value in diagnostics.items()},
            "cost": {name: round(value, 2) for name, value in costs.items()},
        }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _commit() -> str | None:
    """The code that did the run; None outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _cpu() -> str:
    about = Path("/proc/cpuinfo")
    for line in about.read_text().splitlines() if about.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
