"""Which rollout engine a run has that leaves it to us (``rollout.engine`` is ``auto``)."""

import importlib.util
import json
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

from trainer.checkpoints.identity import RUN_NAME
from trainer.spec.rollout import VLLM_LOWEST_TEMPERATURE
from trainer.spec.run import RunSpec

Chosen = Literal["transformers", "vllm"]


def with_engine(spec: RunSpec, run_dir: Path) -> RunSpec:
    """The spec with its engine named: what the run's folder says that it began with, else what suits here."""
    if spec.rollout.engine != "auto":
        return spec
    gpu = torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None
    engine = _recorded(run_dir) or choose(spec, gpu)
    changes = {"engine": engine} | ({} if engine == "vllm" else {"vllm": None})
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update=changes)})


def choose(spec: RunSpec, vllm_on_gpu: bool) -> Chosen:
    """vLLM where it has a GPU, or engines are to be on GPUs of their own; the training model itself else."""
    temperatures = (spec.rollout.temperature, spec.evaluation.temperature)
    if any(0 < value < VLLM_LOWEST_TEMPERATURE for value in temperatures):
        return "transformers"
    asked = spec.resources.rollout_gpus > 0 or spec.resources.tensor_parallel > 1
    return "vllm" if vllm_on_gpu or asked else "transformers"


def _recorded(run_dir: Path) -> Chosen | None:
    with suppress(OSError, ValueError, KeyError):
        engine = json.loads((run_dir / RUN_NAME).read_bytes())["spec"]["rollout"]["engine"]
        return engine if engine in ("transformers", "vllm") else None
    return None
