"""The job that trainers are compared on: the same prompts, samples, lengths, precision, updates and reward.

A prompt asks for a story, which a small model goes on telling up to the limit of tokens; the reward differs
within every group, so that every response is trained.
"""

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

TOPICS = (
    *(
        "rain",
        "bread",
        "trains",
        "maps",
        "paint",
        "glass",
        "rivers",
        "sheep",
        "music",
        "clocks",
        "salt",
        "ice",
    ),
    *("bees", "shoes", "stairs", "wind", "soup", "chalk", "moss", "ropes", "kites", "bells", "sand", "tea"),
)
FILLER = " Take your time, and think of everything that could happen on the way there and back again."


@dataclass(frozen=True)
class Job:
    """One comparison: ``prompts`` x ``samples`` responses a step, one optimizer update."""

    model: str
    dtype: str = "bfloat16"
    algorithm: str = "grpo"
    logits_dtype: str = "model"
    """Of ours alone: "model" rounds logits as the peer does; "float32" is our default."""
    prompts: int = 4
    samples: int = 8
    prompt_tokens: int = 0
    """Filled up to about this many; 0: the question alone."""
    response_tokens: int = 32
    steps: int = 5
    warm_up: int = 1
    gradient_checkpointing: bool = False
    cpu: bool = True

    def arguments(self) -> list[str]:
        """For ``from_arguments`` in another process."""
        return ["--job", json.dumps(asdict(self))]


def from_arguments() -> Job:
    """The job that another process asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=json.loads, required=True, help="fields of benchmarks.job.Job, JSON")
    return Job(**parser.parse_args().job)


def conversations(job: Job, tokens: Callable[[list[dict[str, str]]], int]) -> list[list[dict[str, str]]]:
    """Prompts as messages; ``tokens`` says how long one is."""
    found = []
    for topic in TOPICS:
        text = f"Write a long story about {topic}."
        while tokens([{"role": "user", "content": text + FILLER}]) <= job.prompt_tokens:
            text += FILLER
        found.append([{"role": "user", "content": text}])
    return found


def reward(text: str) -> float:
    """Between 0 and 1, and hardly ever the same twice."""
    return min(1.0, 0.5 * (" was " in text) + len(text) / 4000)


def say(**values: Any) -> None:
    """A line for the process that compares."""
    print(json.dumps(values), flush=True)


def say_memory() -> None:
    """The most memory that this process ever had, bytes, and what torch reserved of a GPU at the most."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
    say(peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, gpu_peak_bytes=gpu)


def environment() -> dict[str, str]:
    """For either side: waiting threads spin for a moment and then sleep, which is best for both here."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    return {**os.environ, "GOMP_SPINCOUNT": "10000", **quiet}
