"""Memory and time of an update on one group, whole and in rows: ``python -m benchmarks.rows``.

A group of sixteen responses trains by ``policy_split``, each under both prompts: in one pass, or in
micro-batches of rows as large as a run's default after a pass without gradient. Response tokens grow from 1 K
to 64 K; the last lines have one response of 1,000 tokens beside 200 of 20, the very last by a model with a
window of 64 tokens, whose responses have padded rows of their own, behind short prompts. Each cell is a
process of its own with one thread, whose processor time is told, so that other work changes little; the
memory that a small update takes is measured first and taken off. The model is drawn at random, two layers of
width 128, so that the table needs no download; ``--model DIR`` takes another.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fixtures.models import build_tiny_model

LENGTHS = {f"{tokens:,}": [tokens // 16] * 16 for tokens in (1024, 4096, 16384, 65536)}
LENGTHS["5,000, uneven"] = [1000, *[20] * 200]
WINDOWS = "5,000, uneven, windows"
LENGTHS[WINDOWS] = LENGTHS["5,000, uneven"]
WINDOW = 64
WHOLE = 10**9


def peak() -> int:
    """Bytes, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def windowed(folder: Path) -> Path:
    """The tests' tiny model as a Mistral: the same weights, with a window in each layer."""
    config = build_tiny_model(folder, head_dim=32) / "config.json"
    changed = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW}
    config.write_text(json.dumps(json.loads(config.read_text()) | changed))
    return folder


def one(model: Path, lengths: list[int], bound: int | None, prompt: str | None) -> None:
    """Print the bytes beyond those of a small update, and the seconds of one core."""
    import torch

    from tests.fixtures.steps import step_context
    from trainer.algorithms import build_algorithm
    from trainer.model.optim import MasterAdamW
    from trainer.model.policy import load_policy
    from trainer.spec.algorithm import PolicySplit
    from trainer.spec.model import ModelSpec
    from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
    from trainer.spec.run import OptimizerSpec
    from trainer.steps.update import update
    from trainer.types import Group, Rollout

    torch.set_num_threads(1)
    policy = load_policy(ModelSpec(path=str(model), dtype="float32"), prompt or DEFAULT_HIGH_ENTROPY_PROMPT)
    optimizer = MasterAdamW(policy.model, OptimizerSpec())
    messages = [{"role": "user", "content": "Why?"}]
    prompts = {mode: policy.prompt_ids(messages, mode) for mode in Mode}

    def train(sizes: list[int]) -> None:
        ids = torch.randint(3, 200, (sum(sizes),), generator=torch.Generator().manual_seed(0)).split(sizes)
        rollouts = [
            Rollout(list(Mode)[i % 2], own.tolist(), [-5.0] * len(own), truncated=True, reward=float(i < 5))
            for i, own in enumerate(ids)
        ]
        update(
            step_context(policy, build_algorithm(PolicySplit())),
            optimizer,
            [Group(0, 0, {}, messages, prompts, rollouts)],
            first_update=0,
            tokens_per_micro_batch=bound,
            divergence_stride=8,
        )

    train([1] * len(lengths))
    before, started = peak(), time.process_time()
    train(lengths)
    print(peak() - before, time.process_time() - started)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder in Hugging Face format")
    parser.add_argument("--lengths", help=argparse.SUPPRESS)
    parser.add_argument("--bound", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--prompt", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=LENGTHS, help="a line of the table alone")
    options = parser.parse_args()
    if options.lengths:
        one(options.model, LENGTHS[options.lengths], options.bound, options.prompt)
        return
    print("| response tokens | one pass, MB | s | rows, MB | s |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        plain = options.model or build_tiny_model(Path(scratch) / "model", head_dim=32)
        with_windows = windowed(Path(scratch) / "windows")
        for tokens in [options.only] if options.only else LENGTHS:
            model = with_windows if tokens == WINDOWS else plain
            cells = [tokens]
            for bound in (["--bound", str(WHOLE)], []):
                command = [sys.executable, "-m", "benchmarks.rows", "--model", str(model)]
                command += ["--lengths", tokens, *bound]
                command += ["--prompt", "Wander."] * (tokens == WINDOWS)
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                size, seconds = map(float, done.stdout.split())
                cells += [f"{size / 1e6:,.0f}", f"{seconds:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
