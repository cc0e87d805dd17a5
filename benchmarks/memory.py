"""Highest memory of scoring and its way back, by tokens: ``python -m benchmarks.memory --model DIR``.

One group of eight responses is scored under one prompt and pulled back to the weights, with layers computed
again on the way back as one would at such lengths, in a process of its own for each. What the model and
its gradients take is measured first and taken off. The last column has a vocabulary of 1,024 entries: what
the other 48,000 cost is the difference, and it does not grow with the tokens.

With ``--plan`` the plans of ``trainer.spec.memory_plan`` are compared with what an update takes beyond what
the process has without a model (libraries, tokenizer): of all weights and of adapters, in bfloat16 and
float32, with layers computed again and not.
"""

import argparse
import gc
import resource
import subprocess
import sys
from importlib import import_module
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


def without_weights(model: Path) -> object:
    """What a process has whatever it trains: libraries, the model's code and its tokenizer."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

    import_module("trainer.model.lora")
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(AutoConfig.from_pretrained(model))]
    return kind, AutoTokenizer.from_pretrained(model)


def planned(model: Path, dtype: str, adapts: bool, recomputes: bool) -> None:
    """Print the bytes that an update takes, and those that were planned."""
    import psutil
    import torch

    from tests.fixtures.steps import step_context
    from trainer.algorithms import build_algorithm
    from trainer.model.optim import MasterAdamW
    from trainer.model.packed_linear import widens_bfloat16
    from trainer.model.policy import load_policy
    from trainer.spec.algorithm import Grpo
    from trainer.spec.memory_plan import Device, memory_plan
    from trainer.spec.model_size import model_size
    from trainer.spec.modes import Mode
    from trainer.spec.run import RunSpec
    from trainer.steps.update import update
    from trainer.system.heap import keep_freed_memory
    from trainer.types import Group, Rollout

    keep_freed_memory()  # as a run does
    prompts, samples, length, prompt = 2, 4, 64, 32
    spec = RunSpec.model_validate(
        {
            "run_id": "plan",
            "model": {"path": str(model), "dtype": dtype, "gradient_checkpointing": recomputes},
            "lora": {} if adapts else None,
            "training_data": {"type": "jsonl", "path": "none.jsonl"},
            "grader": {"type": "string_check", "input": "a", "reference": "a", "operation": "eq"},
            "algorithm": {"type": "grpo"},
            "rollout": {
                "prompts_per_step": prompts,
                "samples_per_prompt": samples,
                "max_prompt_tokens": prompt,
                "max_response_tokens": length,
            },
            "diagnostics": {"interval": 0},
            "total_steps": 1,
        }
    )
    torch.mm(torch.randn(8, 8), torch.randn(8, 8))
    held = without_weights(model)
    before = psutil.Process().memory_info().rss
    policy = load_policy(spec.model, "", lora=spec.lora, seed=0)
    optimizer = MasterAdamW(policy.model, spec.optimizer)
    draw = torch.Generator().manual_seed(0)
    groups = []
    for index in range(prompts):
        of_prompt, *of_rows = torch.randint(3, 1000, (1 + samples, length), generator=draw).tolist()
        rollouts = [
            Rollout(Mode.NORMAL, row, [0.0] * length, truncated=True, reward=float(place % 2))
            for place, row in enumerate(of_rows)
        ]
        prompt_ids: dict[Mode, list[int]] = {mode: list(of_prompt[:prompt]) for mode in Mode}
        groups.append(Group(index, index, {}, [], prompt_ids, rollouts))
    context = step_context(policy, build_algorithm(Grpo(), length), rollout=spec.rollout)
    # Moments come with the first step of the optimizer: an update that has them and gradients is the larger.
    for master in optimizer.masters().values():
        master.grad = torch.zeros_like(master)
    optimizer.step(0)
    update(context, optimizer, groups, first_update=1)
    plan = memory_plan(spec, model_size(model), Device(widens=widens_bfloat16()))
    print(plan.in_words(), file=sys.stderr)
    print(peak() - before, plan.peak_bytes)
    del held  # now, so that its memory served nothing else


def plans(model: Path) -> None:
    """Print the table of plans."""
    print("| trained | weights | layers computed again | planned, MB | taken, MB | planned / taken |")
    print("|---|---|---|---|---|---|")
    for adapts in (False, True):
        for dtype in ("bfloat16", "float32"):
            for recomputes in (False, True):
                command = [sys.executable, "-m", "benchmarks.memory", "--model", str(model), "--dtype", dtype]
                command += ["--adapts"] * adapts + ["--recomputes"] * recomputes
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                taken, told = map(int, done.stdout.split()[-2:])
                print(
                    f"| {'adapters' if adapts else 'all'} | {dtype} | {'yes' if recomputes else 'no'} "
                    f"| {told / 1e6:,.0f} | {taken / 1e6:,.0f} | {told / taken:.2f} |",
                    flush=True,
                )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--tokens", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--plan", action="store_true", help="compare plans with what updates take")
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--adapts", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--recomputes", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dtype:
        planned(options.model, options.dtype, options.adapts, options.recomputes)
        return
    if options.plan:
        plans(options.model)
        return
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
