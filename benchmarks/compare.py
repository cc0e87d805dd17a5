"""``make bench``: a training step of ours beside TRL's, and Policy Split beside our own GRPO, in one run.

Each side runs in a process of its own, one after the other, with the same threads, and tells every step's
seconds and its own highest memory. The table has medians of the steps after warm-up; a ratio is the other
side's time over ours, and its range is over the pairs of steps. ``--only`` picks rows, ``--quick`` takes two
steps a side. Beneath each row of ours is the floor (``benchmarks.floor``), measured in the same run.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.job import Job, environment


@dataclass
class Measured:
    """What one process told."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    peak_bytes: int = 0
    gpu_peak_bytes: int = 0

    @property
    def seconds(self) -> list[float]:
        return [step["seconds"] for step in self.steps]

    def phase(self, name: str) -> float:
        """Median seconds of one of our own phases."""
        return median(step["phases"].get(name, 0.0) for step in self.steps)


def measure(module: str, job: Job) -> Measured:
    """Run ``benchmarks.<module>`` on ``job``. Raises RuntimeError when it fails."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *job.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(
            f"{module} ended with status {done.returncode} (-9: perhaps for want of memory):\n"
            f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
        )
    found = Measured()
    for line in done.stdout.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue  # TRL prints its own log
        if "peak_bytes" in told:
            found.peak_bytes, found.gpu_peak_bytes = told["peak_bytes"], told["gpu_peak_bytes"]
        else:
            found.steps.append(told)
    return found


def ratio(other: Measured, own: Measured) -> str:
    """Median over median, and the range over pairs of steps."""
    pairs = [a / b for a, b in zip(other.seconds, own.seconds, strict=True)]
    return f"{median(other.seconds) / median(own.seconds):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"


def beside_trl(job: Job) -> None:
    """Two rows of ours, with logits rounded like the peer's and by default, against the peer."""
    peer = measure("trl_peer", job)
    length = mean(step["mean_length"] for step in peer.steps)
    print(
        f"| TRL | {median(peer.seconds):.2f} | | {peer.peak_bytes / 1e9:.2f} | | {length:.0f} |", flush=True
    )
    kinds = ["model", "float32"] if job.dtype == "bfloat16" else ["float32"]
    for kind in kinds:
        own = measure("ours", replace(job, logits_dtype=kind))
        length = mean(step["tokens"] / (job.prompts * job.samples) for step in own.steps)
        name = "ours" if kind != "float32" or job.dtype == "float32" else "ours, float32 logits"
        memory = f"{own.peak_bytes / 1e9:.2f} | {own.peak_bytes / peer.peak_bytes:.2f}"
        print(
            f"| {name} | {median(own.seconds):.2f} | {ratio(peer, own)} | {memory} | {length:.0f} |",
            flush=True,
        )
        phases = ", ".join(f"{p} {own.phase(p):.2f}" for p in ("generate", "forward_backward", "optimizer"))
        print(f"| | | seconds of {phases} | | | |", flush=True)
        floor = measure("floor", replace(job, response_tokens=round(length))).seconds[0]
        print(
            f"| floor: products with weights alone | {floor:.2f} | ours / floor "
            f"{median(own.seconds) / floor:.2f} | | | {round(length)} |",
            flush=True,
        )


def modes_beside_one(job: Job) -> None:
    """Policy Split against our own GRPO: the same number of samples, twice the rows."""
    both = measure("ours", replace(job, algorithm="policy_split"))
    one = measure("ours", job)
    update = "forward_backward"
    rows = [
        ("whole step", median(one.seconds), median(both.seconds)),
        ("update", one.phase(update), both.phase(update)),
        ("generate", one.phase("generate"), both.phase("generate")),
        ("optimizer", one.phase("optimizer"), both.phase("optimizer")),
    ]
    for name, of_one, of_both in rows:
        print(f"| {name} | {of_one:.2f} | {of_both:.2f} | {of_both / of_one:.2f} |", flush=True)


TRL_HEAD = (
    "\n### {title}\n\n| side | s a step | TRL / ours (range) | peak GB | ours / TRL | tokens a response |\n"
    "|---|---|---|---|---|---|"
)
MODES_HEAD = "\n### {title}\n\n| phase | GRPO, s | Policy Split, s | ratio |\n|---|---|---|---|"

#: name: (heading, title, what to do, changes of the job)
ROWS: dict[str, tuple[str, str, Callable[[Job], None], dict[str, Any]]] = {
    "bf16": (TRL_HEAD, "32 responses of up to 32 tokens", beside_trl, {}),
    "fp32": (TRL_HEAD, "32 responses of up to 32 tokens", beside_trl, {"dtype": "float32"}),
    "long": (
        TRL_HEAD,
        "prompts of 200 tokens, responses of up to 128",
        beside_trl,
        {"prompt_tokens": 200, "response_tokens": 128},
    ),
    "modes": (
        MODES_HEAD,
        "Policy Split against GRPO, responses of up to 128 tokens",
        modes_beside_one,
        {"response_tokens": 128, "logits_dtype": "float32"},
    ),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        help="in place of each row's own: a processor without bfloat16 is not a place to compare in it",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="on both sides layers are computed again on the way back, as is TRL's default: less memory",
    )
    parser.add_argument("--quick", action="store_true", help="two steps a side: a first look")
    options = parser.parse_args()
    base = Job(
        str(options.model.resolve()),
        steps=2 if options.quick else 5,
        gradient_checkpointing=options.recompute,
    )
    for name in options.only:
        heading, title, act, changes = ROWS[name]
        job = replace(base, **changes | ({"dtype": options.dtype} if options.dtype else {}))
        print(heading.format(title=f"{title}, {job.dtype}"), flush=True)
        act(job)


if __name__ == "__main__":
    main()
