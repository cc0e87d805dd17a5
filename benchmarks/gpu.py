"""All that a GPU is measured by, in one command: ``python -m benchmarks.gpu --tokenizer DIR``.

First the kernels that only a GPU has are compared with float64 arithmetic. Then, for models of the shapes of
Qwen2.5-0.5B, Qwen3-1.7B and Qwen3-4B with random weights, so that none has to be fetched: tokens/s of
rollouts and of the update, the share of the bfloat16 peak that the update's arithmetic reaches (target:
45 %), the most memory, Policy Split's time over our GRPO's (target: 1.4 at most), and TRL's over ours. The
update's arithmetic is 6 operations a weight and position, 6 a weight of the output matrix and response token,
and 12 times a head's size for each query and key in each layer and head; what is computed twice counts once.

Where there is no GPU it says so and is done; ``--cpu`` measures there all the same, in float32, which shows
that the command works and no more.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from benchmarks.compare import Measured, measure, ratio
from benchmarks.job import Job, conversations

#: Dense bfloat16 operations a second, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12}


class Shape(NamedTuple):
    """A model to make: transformers' name of its configuration, and fields of that."""

    config: str
    fields: dict[str, Any]
    recompute: bool = False
    """Layers are computed again on the way back, on both sides."""


def _qwen3(hidden: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
    }


SHAPES = {
    "qwen2.5-0.5b": Shape(
        "Qwen2Config",
        {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 151_936,
        },
    ),
    "qwen3-1.7b": Shape("Qwen3Config", _qwen3(2048, 6144, 28, 16)),
    "qwen3-4b": Shape("Qwen3Config", _qwen3(2560, 9728, 36, 32), recompute=True),
}


def build(shape: Shape, tokenizer_folder: Path, folder: Path) -> int:
    """Write the model to ``folder``; the number of its weights without embedding and output matrix."""
    import torch
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = getattr(transformers, shape.config)(
        **shape.fields,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.get_decoder().layers.parameters())


def kernels(device: str) -> dict[str, float]:
    """The largest error of outputs and gradients of what ``device`` computes attention and log-probabilities
    with, in bfloat16, as a share of the largest number there is; against float64 from the same numbers."""
    import torch

    from trainer.model.logprobs import token_logprobs
    from trainer.model.spans import Spans, span_attention
    from trainer.model.trees import Tree, masked_tree_attention, spanned_tree_attention

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(device)

    def outcome(function: Callable[..., Any], inputs: Sequence[Any], weights: Any) -> list[Any]:
        out = function(*inputs)
        found = torch.autograd.grad((out.double() * weights).sum(), inputs)
        return [x.detach() for x in (out, *found)]

    def error(
        fast: Callable[..., Any], slow: Callable[..., Any], inputs: Sequence[Any], weights: Any
    ) -> float:
        narrow = [x.bfloat16().requires_grad_() for x in inputs]
        exact = [x.detach().double().requires_grad_() for x in narrow]
        pairs = zip(outcome(fast, narrow, weights), outcome(slow, exact, weights), strict=True)
        return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)

    trees = (Tree(0, 200, (128, 90, 1)), Tree(419, 40, (32,) * 4), Tree(587, 64, ()))
    length, size = trees[-1].end, 64
    qkv = [draw(heads, length, size) for heads in (8, 2, 2)]
    found = {
        "trees": error(
            lambda q, k, v: spanned_tree_attention(q, k, v, trees, 0.125),
            lambda q, k, v: masked_tree_attention(q, k, v, trees, 0.125),
            qkv,
            draw(8, length, size).double(),
        )
    }
    window = 50
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    spans = Spans((length,), (length,), torch.device(device), window=window)
    found["windows"] = error(
        lambda q, k, v: span_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), spans, 0.125),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q,
            *(x.repeat_interleave(4, dim=0) for x in (k, v)),
            attn_mask=(distance >= 0) & (distance < window),
            scale=0.125,
        ).transpose(0, 1),
        qkv,
        draw(length, 8, size).double(),
    )
    token = torch.randint(0, 3000, (700,), generator=generator).to(device)
    found["log-probabilities"] = error(
        lambda hidden, output: token_logprobs(hidden, output, token, 0.8, 128)[0],
        lambda hidden, output: (hidden @ output.t() / 0.8).log_softmax(-1).gather(-1, token[:, None])[:, 0],
        [draw(700, size), draw(3000, size)],
        draw(700).double(),
    )
    return found


def operations(job: Job, weights: int) -> dict[str, float]:
    """Of the arithmetic of an update of either algorithm, where every response has all its tokens."""
    from transformers import AutoConfig, AutoTokenizer

    from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode, messages_for_mode

    tokenizer: Any = AutoTokenizer.from_pretrained(job.model)
    config: Any = AutoConfig.from_pretrained(job.model)

    def count(messages: Any) -> int:
        return len(tokenizer.apply_chat_template(messages)["input_ids"])

    rows = conversations(job, count)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    by_mode = {}
    for mode in Mode:
        shown = [messages_for_mode(row, mode, DEFAULT_HIGH_ENTROPY_PROMPT, "system") for row in rows]
        prompt = mean(map(count, shown))
        responses = job.samples * job.response_tokens
        pairs = prompt**2 / 2 + responses * (prompt + job.response_tokens / 2)
        by_mode[mode] = job.prompts * (
            6 * weights * (prompt + responses)
            + 6 * config.vocab_size * config.hidden_size * responses
            + 12 * config.num_hidden_layers * config.num_attention_heads * size * pairs
        )
    return {"grpo": by_mode[Mode.NORMAL], "policy_split": sum(by_mode.values())}


def lines(
    job: Job,
    weights: int,
    peak: float | None,
    *,
    trl: bool,
    measure: Callable[[str, Job], Measured] = measure,
) -> Iterator[str]:
    """A table's lines for one model: ours by either algorithm, and the ratios."""
    needed = operations(job, weights)
    found: dict[str, Measured] = {}
    for algorithm in ("grpo", "policy_split"):
        own = found[algorithm] = measure("ours", replace(job, algorithm=algorithm))
        update = own.phase("forward_backward")
        generated = median(step["tokens"] for step in own.steps)
        share = f"{needed[algorithm] / update / peak:.0%}" if peak else "of an unknown peak"
        yield (
            f"| {algorithm} | {median(own.seconds):.2f} | {generated / own.phase('generate'):,.0f} | "
            f"{median(step['trained'] for step in own.steps) / update:,.0f} | {share} | {_gib(own)} | "
            f"{ratio(own, found['grpo'])} |"
        )
    if trl:
        peer = measure("trl_peer", job)
        over = ratio(peer, found["grpo"])
        yield f"| TRL, GRPO | {median(peer.seconds):.2f} | | | | {_gib(peer)} | {over} |"


def _gib(one: Measured) -> str:
    return f"{(one.gpu_peak_bytes or one.peak_bytes) / 2**30:.1f}"


HEAD = (
    "| side | s a step | rollout tokens/s | update tokens/s | of the peak | GiB | over our GRPO (range) |\n"
    "|---|---|---|---|---|---|---|"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model folder with the tokenizer")
    parser.add_argument("--shape", choices=SHAPES, nargs="*", default=list(SHAPES))
    parser.add_argument("--peak-tflops", type=float, help="of the card in bfloat16, where it is not known")
    parser.add_argument("--no-trl", action="store_true", help="ours alone")
    parser.add_argument("--cpu", action="store_true", help="measure without a GPU")
    options = parser.parse_args(arguments)
    import torch

    if not torch.cuda.is_available() and not options.cpu:
        print(
            "No GPU here (torch.cuda.is_available() is False): nothing was measured. --cpu measures without."
        )
        return 0
    device = "cpu" if options.cpu else "cuda"
    card = "CPU" if options.cpu else torch.cuda.get_device_name()
    peak = (options.peak_tflops or 0) * 1e12 or next((p for name, p in PEAKS.items() if name in card), None)
    print(f"{card}, torch {torch.__version__}")
    for name, error in kernels(device).items():
        print(f"{name}: off by {error:.2%} of the largest at most{'' if error < 0.02 else ', TOO MUCH'}")
    for name in options.shape:
        shape = SHAPES[name]
        with tempfile.TemporaryDirectory() as folder:
            weights = build(shape, options.tokenizer, Path(folder))
            job = Job(
                folder,
                dtype="float32" if options.cpu else "bfloat16",
                prompts=16,
                prompt_tokens=200,
                response_tokens=256,
                gradient_checkpointing=shape.recompute,
                cpu=options.cpu,
            )
            print(f"\n{name}, {weights / 1e6:,.0f} M weights in its layers\n\n{HEAD}", flush=True)
            for line in lines(job, weights, peak, trl=not options.no_trl):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
