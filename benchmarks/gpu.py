"""A training step on a GPU, ours and TRL's: ``python -m benchmarks.gpu --tokenizer DIR``.

The model has the shape of Qwen2.5-0.5B or Llama-3.2-1B and random weights, so none has to be fetched. Printed
are tokens/s of rollouts and of the update, the share of the card's bfloat16 peak that the update's arithmetic
reaches (6 operations a weight and token, embeddings left out), and TRL's time over ours. Where there is no
GPU it says so and is done.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import Measured, measure, ratio
from benchmarks.job import Job

#: Dense bfloat16 operations a second, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "llama-3.2-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


def build(shape: str, tokenizer_folder: Path, folder: Path) -> int:
    """Write the model to ``folder``; the number of its weights without the embedding."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="bfloat16",
    )
    model = LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.model.layers.parameters())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model folder with the tokenizer")
    parser.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    parser.add_argument("--peak-tflops", type=float, help="of the card in bfloat16, where it is not known")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("No GPU here: nothing was measured.")
        return 0
    card = torch.cuda.get_device_name()
    peak = (options.peak_tflops or 0) * 1e12 or next((p for name, p in PEAKS.items() if name in card), None)
    with tempfile.TemporaryDirectory() as name:
        weights = build(options.shape, options.tokenizer, Path(name))
        job = Job(name, prompts=16, response_tokens=256, prompt_tokens=200, cpu=False)
        print(f"{card}, torch {torch.__version__}, {options.shape} with {weights:,} weights in its layers")
        found: dict[str, Measured] = {}
        for algorithm in ("grpo", "policy_split"):
            own = found[algorithm] = measure("ours", replace(job, algorithm=algorithm))
            generated = median(step["tokens"] for step in own.steps)
            trained = median(step["trained"] for step in own.steps)
            update = own.phase("forward_backward")
            share = f"{6 * weights * trained / update / peak:.0%}" if peak else "of an unknown peak"
            print(
                f"{algorithm}: {median(own.seconds):.2f} s a step, rollouts "
                f"{generated / own.phase('generate'):,.0f} tokens/s, update {trained / update:,.0f} "
                f"tokens/s, model FLOPs utilisation {share}"
            )
        print(f"policy_split / grpo: {ratio(found['policy_split'], found['grpo'])}")
        print(f"TRL / ours: {ratio(measure('trl_peer', job), found['grpo'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
