"""``benchmarks.gpu`` on the CPU: it says that there is no GPU, and what it measures with is right."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from benchmarks.compare import Measured
from benchmarks.gpu import SHAPES, Shape, build, kernels, lines, main, operations
from benchmarks.job import Job
from benchmarks.ours import steps_of

#: With tokens that the tokenizer does not know, as real shapes have beside another's tokenizer.
TINY = Shape(
    "Qwen3Config",
    {
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 600,
    },
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_is_done(tiny_model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--tokenizer", str(tiny_model)]) == 0
    assert "No GPU here" in capsys.readouterr().out


def test_kernels_are_compared_with_float64():
    found = kernels("cpu")
    assert found.keys() == {"trees", "windows", "log-probabilities"}
    assert all(0 < error < 0.02 for error in found.values()), found


def test_the_shapes_are_those_of_the_models_they_are_named_after():
    import transformers

    for (name, shape), billions in zip(SHAPES.items(), (0.49, 1.72, 4.02), strict=True):
        with torch.device("meta"):
            config = getattr(transformers, shape.config)(**shape.fields, tie_word_embeddings=True)
            model = AutoModelForCausalLM.from_config(config)
        weights = sum({id(p): p.numel() for p in model.parameters()}.values())
        assert weights / 1e9 == pytest.approx(billions, abs=0.01), name


def test_a_model_is_made_and_measured(tiny_model: Path, tmp_path: Path):
    """In this process; and the operations counted are those of torch's own counter on a whole row."""
    weights = build(TINY, tiny_model, tmp_path)
    job = Job(str(tmp_path), dtype="float32", prompts=1, samples=2, response_tokens=8, steps=1, warm_up=0)
    told = list(
        lines(job, weights, 1e12, trl=False, measure=lambda module, job: Measured(steps_of(job), 2**30))
    )
    assert [line.split(" | ")[0] for line in told] == ["| grpo", "| policy_split"]
    for line in told:
        _, _, seconds, rollout, update, share, gib, over, _ = line.split("|")
        assert float(seconds) > 0 and float(rollout.replace(",", "")) > 0
        assert float(update.replace(",", "")) > 0 and share.strip().endswith("%")
        assert gib.strip() == "1.0" and "(" in over


def test_operations_are_those_that_torch_counts(tiny_model: Path, tmp_path: Path):
    """Of one response behind one prompt of about 200 tokens; torch counts scores that causality hides, and
    logits of the prompt, too."""
    weights = build(TINY, tiny_model, tmp_path)
    job = Job(str(tmp_path), prompts=1, samples=1, prompt_tokens=1, response_tokens=300)
    needed = operations(job, weights)
    other = operations(Job(str(tmp_path), prompts=1, samples=1, prompt_tokens=1, response_tokens=0), weights)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32)
    # Without a response what is left is a prompt's: its length follows from that.
    width, layers = 4 * 16, 2
    a, b, c = 6 * layers * width, 6 * weights, -other["grpo"]
    prompt = (-b + (b * b - 4 * a * c) ** 0.5) / (2 * a)
    length = round(prompt) + 300
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(1, length, dtype=torch.long))
    counted = 3 * counter.get_total_flops()
    hidden = 6 * layers * width * length**2
    of_prompt = 6 * 600 * 32 * round(prompt)
    assert needed["grpo"] == pytest.approx(counted - hidden - of_prompt, rel=0.02)
    assert needed["policy_split"] > 2 * needed["grpo"]
