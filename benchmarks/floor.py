"""The least that a step of ``benchmarks.job`` could take on this machine: its products with weights alone.

Each product of a step is timed by itself, as often as a step needs it, in the fastest way that there is here
(plain or in oneDNN's layout; for bfloat16 in float32, too): every distinct token of a prompt and every
response token goes through the layers forward, once more where they are computed again, and back; every
response token through the output matrix; and every response token is decoded with as many rows as there are
responses. A layer's weight comes from memory, as in a step, where all others were used since: products go
through as many copies of it as a processor's cache does not hold. Attention, norms, the optimizer and all
that is between products count as nothing.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.job import Job, conversations, from_arguments, say, say_memory
from trainer.model.packed_linear import can_pack, packed, packed_product, weight_product

REPEATS = 5
BEYOND_CACHES = 128 << 20
"""Bytes of weights, more than a processor's caches hold."""


class Seconds(NamedTuple):
    """Of a product of x (T, D) and a weight (N, D), and of the two that go back through it."""

    forward: float
    backward: float


def product_seconds(rows: int, weight_ND: tuple[int, int], dtype: torch.dtype) -> Seconds:
    """The fastest of some tries and ways."""
    n, d = weight_ND
    forward, dx, dw = [], [], []
    for kind in {dtype, torch.float32}:
        x, grad = torch.randn(rows, d, dtype=kind), torch.randn(rows, n, dtype=kind)
        weight = torch.randn(n, d, dtype=kind)
        weights = [weight.clone() for _ in range(max(1, BEYOND_CACHES // weight.nbytes))]
        forward.append(_fastest(partial(torch.nn.functional.linear, x), weights))
        dx.append(_fastest(partial(torch.matmul, grad), weights))
        dw.append(_fastest(lambda grad=grad, x=x: weight_product(grad, x)))
        dw.append(_fastest(lambda grad=grad, x=x: grad.t() @ x))
        if can_pack(weight):
            there, back = packed(weight), packed(weight.t().contiguous())
            forward.append(_fastest(partial(packed_product, x), [there.clone() for _ in weights]))
            dx.append(_fastest(partial(packed_product, grad), [back.clone() for _ in weights]))
    return Seconds(min(forward), min(dx) + min(dw))


def _fastest(product: Callable[..., Tensor], weights: Sequence[Tensor] = ()) -> float:
    """Seconds of one product, or of the mean one of those with each of ``weights`` one after the other: the
    least of as many goes as make ``REPEATS`` products, after one that does not count."""
    calls = [partial(product, weight) for weight in weights] or [product]
    found = []
    for _ in range(1 + -(-REPEATS // len(calls))):
        started = time.perf_counter()
        for call in calls:
            call()
        found.append((time.perf_counter() - started) / len(calls))
    return min(found[1:])


def floor_seconds(job: Job) -> float:
    """Of a GRPO step in which every response has ``job.response_tokens`` tokens."""
    tokenizer: Any = AutoTokenizer.from_pretrained(job.model)
    prompts = [
        len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
        for messages in conversations(job, lambda rows: len(tokenizer.apply_chat_template(rows)["input_ids"]))
    ]
    # Every step has other topics: the mean prompt stands for all.
    prompt_tokens = job.prompts * sum(prompts) / len(prompts)
    responses = job.prompts * job.samples
    trained = responses * job.response_tokens
    dtype = getattr(torch, job.dtype)
    distinct = round(prompt_tokens) + trained
    forwards = 2 if job.gradient_checkpointing else 1
    layers, (vocabulary, width) = _weights(job.model)
    total = 0.0
    for weight_ND, count in layers.items():
        update = product_seconds(distinct, weight_ND, dtype)
        total += count * (forwards * update.forward + update.backward)
        total += count * product_seconds(round(prompt_tokens), weight_ND, dtype).forward
        total += count * job.response_tokens * product_seconds(responses, weight_ND, dtype).forward
    output = product_seconds(trained, (vocabulary, width), dtype)
    decoded = product_seconds(responses, (vocabulary, width), dtype).forward
    return total + output.forward + output.backward + job.response_tokens * decoded


def _weights(model: str) -> tuple[dict[tuple[int, int], int], tuple[int, int]]:
    """How many layers have a matrix of each shape, and the output matrix' shape."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    counted: dict[tuple[int, int], int] = {}
    for module in made.get_decoder().modules():
        if isinstance(module, torch.nn.Linear):
            shape = (module.out_features, module.in_features)
            counted[shape] = counted.get(shape, 0) + 1
    output = made.get_output_embeddings().weight
    return counted, (output.shape[0], output.shape[1])


def main() -> None:
    """Measure and tell, as a side of ``benchmarks.compare``."""
    with torch.inference_mode():
        say(seconds=floor_seconds(from_arguments()))
    say_memory()


if __name__ == "__main__":
    main()
