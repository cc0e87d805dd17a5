"""Highest memory of scoring and its way back, by tokens: ``python -m benchmarks.memory --model DIR``.

One group of eight responses is scored under one prompt and pulled back to the weights, with layers computed
again on the way back as one would at such lengths, in a process of its own for each. What the model and
its gradients take is measured first and taken off. The last column has a vocabulary of 1,024 entries: what
the other 48,000 cost is the difference, and it does not grow with the tokens.
"""

import argparse
import gc
import resource
import subprocess
import sys
from pathlib import Path

LENGTHS = (1024, 4096, 16384)
RESPONSES = 8


def peak() -> int:
    """Bytes, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def one(model: Path, tokens: int, vocabulary: int | None) -> None:
    """Print the bytes beyond those of a small pass."""
    import torch

    from trainer.model.policy import load_policy
    from trainer.model.scoring import score_groups
    from trainer.spec.model import ModelSpec
    from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
    from trainer.types import Group, Rollout

    spec = ModelSpec(path=str(model), gradient_checkpointing=True)
    policy = load_policy(spec, DEFAULT_HIGH_ENTROPY_PROMPT)
    if vocabulary is not None:
        policy.model.resize_token_embeddings(vocabulary)

    def score(total: int) -> None:
        ids = torch.randint(3, 1000, (total,), generator=torch.Generator().manual_seed(0)).tolist()
        size = total // RESPONSES
        rollouts = [
            Rollout(Mode.NORMAL, ids[i * size : (i + 1) * size], [0.0] * size, truncated=True)
            for i in range(RESPONSES)
        ]
        group = Group(0, 0, {}, [], {Mode.NORMAL: [1, 2, 3]}, rollouts)
        (scored,) = score_groups(policy, [group], (Mode.NORMAL,))
        scored[Mode.NORMAL].logp_T.sum().backward()

    score(RESPONSES)
    gc.collect()
    before = peak()
    score(tokens)
    print(peak() - before)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokens:
        one(options.model, options.tokens, options.vocabulary)
        return
    print("| response tokens | peak beyond the model, MB | KB a token | with a vocabulary of 1,024, MB |")
    print("|---|---|---|---|")
    for tokens in LENGTHS:
        found = []
        for more in ([], ["--vocabulary", "1024"]):
            command = [sys.executable, "-m", "benchmarks.memory", "--model", str(options.model)]
            command += ["--tokens", str(tokens), *more]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(int(done.stdout.split()[-1]))
        whole, cut = found
        print(
            f"| {tokens:,} | {whole / 1e6:,.0f} | {whole / tokens / 1e3:.0f} | {cut / 1e6:,.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
