"""The memory a run takes on each device, calculated from its specification before it starts. Torch-free.

What is kept from step to step is always needed; in addition sampling, the update and the probes need memory
one after the other, and the peak is the former plus the largest of the latter. Weights, masters, moments and
gradients are certain: a training run has them regardless of its data. The rest depends on how long prompts
and responses are, and is calculated for the longest that the specification allows.
``benchmarks.memory --plan`` compares plans with what was measured.

With hidden size D, feed-forward width F, query and key widths Q and K, and s bytes a number, a layer keeps
for its way back of each position

    norms 2 (4 D + 2 s D), queries, keys, values and attention s (2 Q + 2 K), feed-forward 4 s F

and with recomputation its input s D alone, and one layer all of it. On a CPU a layer of Llama's form keeps

    inputs and norms 4 s D, queries, keys, values and attention s (2 Q + 2 K), feed-forward 2 s F

Under adapters of rank r a layer of m matrices keeps m s r more, and frozen norms 2 s D less; one of Llama's
form, whose norms keep nothing of their own, s F more. And a matrix makes its output four times (of the
weights, of the adapter, scaled, added up), of which one stays. What is freed in between is not all used again
by a CPU's heap: HEAP_PIECES of activations, measured (``benchmarks/NOTES.md``, "Memory planned").
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.spec.algorithm import PolicySplit
from trainer.spec.model import LoraSpec
from trainer.spec.model_size import ModelSize, blocks_of
from trainer.spec.run import RunSpec
from trainer.spec.taught import Dpo, Taught

#: ``host`` is not one, but of what a GPU's process keeps in the host's memory instead.
Phase = Literal["always", "sampling", "update", "probes", "host"]
GIB = 1 << 30
#: As in trainer.steps.parts, trainer.model.logprobs and the engines of trainer.rollout.
MICRO_BATCH_TOKENS, LARGEST_MICRO_BATCH_TOKENS = 4096, 16384
CHUNK_TOKENS, CACHED_TOKENS, KEPT_BYTES = 1024, 64, 256 << 20
DEVICE_SHARE, CHUNK_COPIES, LEAST_CHUNK = 32, 4, 128
ROWS_AT_ONCE, CACHE_GROWTH = 128, 64
BESIDE_SHARE = 0.4
SLICE, SLICE_ON_CPU = 1 << 24, 1 << 18
#: Bytes for each number of a slice of moments: both in float32, and as much to make them of what is kept.
IN_USE = 16
#: Copies of the trained weights that the probe of gradients adds up in.
PROBE_SUMS = 4
#: Of float32 logits that a chunk has at once: themselves, probabilities, and their gradient.
LOGITS_AT_ONCE = 3
#: With adapters on a CPU: free pieces between activations, as a share of these.
HEAP_PIECES = 0.75


@dataclass(frozen=True)
class Line:
    """Bytes for one thing on one device, and when they are needed."""

    what: str
    bytes: int
    phase: Phase = "always"
    certain: bool = False
    """Whether the run needs them regardless of its data."""


@dataclass(frozen=True)
class MemoryPlan:
    """All that one process of a run takes on its device."""

    lines: tuple[Line, ...]

    @property
    def certain_bytes(self) -> int:
        """What the run needs at once regardless of its data; a device with less cannot train it."""
        return sum(line.bytes for line in self.lines if line.certain)

    @property
    def peak_bytes(self) -> int:
        """The most at once, for the longest prompts and responses."""
        beside: dict[Phase, int] = {"always": 0}
        for line in self.lines:
            if line.phase != "host":
                beside[line.phase] = beside.get(line.phase, 0) + line.bytes
        always = beside.pop("always")
        return always + max(beside.values(), default=0)

    def in_words(self) -> str:
        """``weights 0.25 GiB, masters 0.50 GiB, …``, without lines of zero bytes."""
        return ", ".join(
            f"{line.what}{'' if line.phase == 'always' else f' ({line.phase})'} {_gib(line.bytes)}"
            for line in self.lines
            if line.bytes
        )

    def told(self) -> dict[str, object]:
        """As the API shows it."""
        return {
            "peak_bytes": self.peak_bytes,
            "certain_bytes": self.certain_bytes,
            "lines": [
                {"what": one.what, "bytes": one.bytes, "phase": one.phase} for one in self.lines if one.bytes
            ],
        }


@dataclass(frozen=True)
class Device:
    """What a run's process computes on."""

    cpu: bool = True
    memory_bytes: int | None = None
    """All that it has; None: unknown."""
    widens: bool = False
    """Whether bfloat16 weights are multiplied as float32 copies (``trainer.model.packed_linear``)."""


def memory_plan(
    spec: RunSpec, size: ModelSize, device: Device, ranks: int = 1, sharded: bool = False
) -> MemoryPlan:
    """The plan of one process of ``ranks`` that train, each with a part of the state where ``sharded``.

    A model whose configuration does not name its widths has no lines for what depends on them.
    """
    number = 4 if spec.model.dtype == "float32" else 2
    adapted = _adapters(spec, size)
    trained = size.parameters if adapted is None else adapted
    share = ranks if sharded else 1
    trains = _trains(spec, size)
    # Parts of trained weights are their own masters (trainer.distributed.sharding).
    of_trained = 4 if sharded else number
    frozen = 0 if adapted is None else size.parameters
    lines = [
        Line("weights", (frozen * number + trained * of_trained) // share, certain=size.exact),
        Line("masters", 0 if of_trained == 4 else 4 * trained // share, certain=size.exact),
        *_moments(spec, size, device, share),
        Line("gradients", 4 * trained // share, "update", certain=trains),
    ]
    if _has_reference(spec) and adapted is None:
        lines.append(Line("reference", size.parameters * number // share))
    if device.cpu:
        wide = 4 if device.widens or number == 4 else 2
        exact = spec.model.logits_dtype == "float32"
        lines.append(Line("packed copies of layers", 0 if sharded else size.in_layers * wide))
        lines.append(Line("packed output matrix", size.output * (4 if exact else wide)))
    return MemoryPlan(
        (*lines, *_sampling(spec, size, device), *_update(spec, size, device, adapted, number, share))
    )


def refusal(plan: MemoryPlan, device: Device, options: Sequence[tuple[str, MemoryPlan]] = ()) -> str | None:
    """Why the run cannot fit the device; None if it can, or if the device's memory is unknown.

    Only what is certain leads to a refusal. It names those of ``options`` with which the run would fit.
    """
    if device.memory_bytes is None or plan.certain_bytes <= device.memory_bytes:
        return None
    fitting = [(name, one) for name, one in options if one.certain_bytes <= device.memory_bytes]
    told = "; ".join(f"{name} needs {_gib(one.certain_bytes)}" for name, one in fitting)
    remedy = f"give one of these: {told}; or" if fitting else "give"
    return (
        f"the run needs at least {_gib(plan.certain_bytes)}, but the {_place(device)} has "
        f"{_gib(device.memory_bytes)}: {plan.in_words()}. To fit it, {remedy} a smaller model, or more GPUs, "
        "over which the run is sharded"
    )


def memory_options(
    spec: RunSpec, size: ModelSize, device: Device, ranks: int = 1, sharded: bool = False
) -> list[tuple[str, MemoryPlan]]:
    """What could be chosen to need less that is certain, and the plans with it, from the least change on."""
    changes: dict[str, object] = {"moments": "int8"} if device.cpu else {"offload": True, "moments": "int8"}
    found = [
        (
            f"optimizer.{name} {json.dumps(value)}",
            spec.model_copy(update={"optimizer": spec.optimizer.model_copy(update={name: value})}),
        )
        for name, value in changes.items()
    ]
    if spec.lora is None:
        found.append((f"lora (rank {LoraSpec().rank})", spec.model_copy(update={"lora": LoraSpec()})))
    least = memory_plan(spec, size, device, ranks, sharded).certain_bytes
    plans = [(name, memory_plan(one, size, device, ranks, sharded)) for name, one in found]
    return [(name, plan) for name, plan in plans if plan.certain_bytes < least]


def doubt(plan: MemoryPlan, device: Device) -> str | None:
    """What to report if the longest prompts and responses would not fit; None if they would."""
    if device.memory_bytes is None or plan.peak_bytes <= device.memory_bytes:
        return None
    return (
        f"With the longest prompts and responses the run would need {_gib(plan.peak_bytes)}, but the "
        f"{_place(device)} has {_gib(device.memory_bytes)}: {plan.in_words()}. "
        "A smaller optimizer.tokens_per_micro_batch, or model.gradient_checkpointing, reduces the update's "
        "memory."
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


def _place(device: Device) -> str:
    return "host" if device.cpu else "GPU"


def _adapters(spec: RunSpec, size: ModelSize) -> int | None:
    """Numbers of the adapters; None without any."""
    if spec.lora is None:
        return None
    return spec.lora.rank * sum(rows + columns for rows, columns in _adapted(spec.lora, size))


def _adapted(lora: LoraSpec, size: ModelSize) -> list[tuple[int, int]]:
    """Numbers out and in of the matrices that have adapters."""
    wanted = lora.target_modules
    return [(rows, columns) for name, rows, columns in size.linear if wanted is None or name in wanted]


def _moments(spec: RunSpec, size: ModelSize, device: Device, share: int) -> Sequence[Line]:
    trained, vectors, blocks = size.parameters, size.vectors, size.blocks
    if spec.lora is not None:
        rank, linear = spec.lora.rank, _adapted(spec.lora, size)
        trained, vectors = rank * sum(rows + columns for rows, columns in linear), 0
        blocks = sum(rank * blocks_of(columns) + rows * blocks_of(rank) for rows, columns in linear)
    eight = spec.optimizer.moments == "int8"
    kept = (2 * (trained - vectors) + 8 * (blocks + vectors) if eight else 8 * trained) // share
    away = spec.optimizer.offload and not device.cpu
    lines = [Line("moments", kept, "host" if away else "always", not away and _trains(spec, size))]
    if eight or away:
        at_once = min(trained // share, SLICE_ON_CPU if device.cpu else SLICE)
        lines.append(Line("moments in use", IN_USE * at_once, "update"))
    return lines


def _trains(spec: RunSpec, size: ModelSize) -> bool:
    """Whether what training takes is certain."""
    return size.exact and spec.total_steps > 0


def _has_reference(spec: RunSpec) -> bool:
    if isinstance(spec.algorithm, Taught):
        return isinstance(spec.algorithm, Dpo)
    return spec.algorithm.reference_kl is not None


def _sampling(spec: RunSpec, size: ModelSize, device: Device) -> Sequence[Line]:
    if isinstance(spec.algorithm, Taught):
        return ()
    rollout = spec.rollout
    number = 4 if device.cpu or spec.model.dtype == "float32" else 2
    if rollout.engine == "vllm":
        settings = rollout.vllm
        if device.cpu or device.memory_bytes is None or spec.resources.rollout_gpus:
            return ()  # processes of their own, whose memory is not in the plan
        share = (settings and settings.gpu_memory_share) or BESIDE_SHARE
        sleeps = settings is None or settings.sleep
        return (Line("vLLM", int(share * device.memory_bytes), "sampling" if sleeps else "always"),)
    rows = min(rollout.prompts_per_step * rollout.samples_per_prompt, ROWS_AT_ONCE)
    prompts = min(rows, -(-rows * _modes(spec) // rollout.samples_per_prompt))
    response = -(-rollout.max_response_tokens // CACHE_GROWTH) * CACHE_GROWTH
    tokens = prompts * rollout.max_prompt_tokens + rows * response
    return (
        Line("keys and values", tokens * 2 * size.keys * size.layers * number, "sampling"),
        Line("logits of sampling", LOGITS_AT_ONCE * rows * size.vocabulary * 4, "sampling"),
    )


def _update(
    spec: RunSpec, size: ModelSize, device: Device, adapted: int | None, number: int, share: int
) -> Sequence[Line]:
    positions = micro_batch_positions(spec)
    kept = number * size.hidden
    dense = device.cpu and size.dense and share == 1
    layer = _dense_layer(spec, size, number) if dense else kept + _layer(spec, size, number)
    each = size.layers * kept + layer if spec.model.gradient_checkpointing else size.layers * layer
    lines = [
        Line("activations", positions * each, "update"),
        *(_beside_adapters(positions, each, size, device, number) if adapted is not None else ()),
        *_logits(positions, size, device, number),
        Line("gradient of the output matrix", 0 if adapted is not None else 4 * size.output, "update"),
    ]
    probed = spec.diagnostics.interval and "gradients" in spec.diagnostics.which
    if probed and isinstance(spec.algorithm, PolicySplit):
        sums = PROBE_SUMS * 4 * (size.parameters if adapted is None else adapted) // share
        lines.append(Line("sums for the gradient probe", sums, "probes"))
    return lines


def _layer(spec: RunSpec, size: ModelSize, number: int) -> int:
    """Bytes that a layer of any form keeps of a position, beside its input."""
    every = 2 * (4 + 2 * number) * size.hidden + number * (2 * size.queries + 2 * size.keys + 4 * size.inner)
    return every if spec.lora is None else every + number * (_rank_outputs(spec, size) - 2 * size.hidden)


def _dense_layer(spec: RunSpec, size: ModelSize, number: int) -> int:
    """The same of Llama's form on a CPU, with its input."""
    every = number * (4 * size.hidden + 2 * size.queries + 2 * size.keys + 2 * size.inner)
    return every if spec.lora is None else every + number * (_rank_outputs(spec, size) + size.inner)


def _rank_outputs(spec: RunSpec, size: ModelSize) -> int:
    """Numbers that the adapters' first matrices put out of a position, in a layer."""
    assert spec.lora is not None
    wanted = spec.lora.target_modules
    adapted = sum(wanted is None or name in wanted for name, _, _ in size.linear)
    return spec.lora.rank * adapted // max(size.layers, 1)


def _beside_adapters(
    positions: int, each: int, size: ModelSize, device: Device, number: int
) -> Sequence[Line]:
    """``each``: bytes of a position's activations."""
    widest = positions * number * max((rows for _, rows, _ in size.linear), default=0)
    pieces = int(HEAP_PIECES * positions * each) if device.cpu else 0
    return (
        Line("outputs of a layer with adapters", 3 * widest, "update"),
        Line("free pieces of the heap", pieces, "update"),
    )


def _logits(positions: int, size: ModelSize, device: Device, number: int) -> Sequence[Line]:
    """As ``trainer.model.logprobs`` has them: on a GPU a share of its memory each; on a CPU of a chunk the
    gradient alone is whole, in the precision that it is multiplied in."""
    kept = KEPT_BYTES
    factor = 4 if device.widens else number
    logits = LOGITS_AT_ONCE * 4 * min(CACHED_TOKENS, positions) + factor * min(CHUNK_TOKENS, positions)
    if not device.cpu and device.memory_bytes is not None:
        kept = device.memory_bytes // DEVICE_SHARE
        chunk = max(LEAST_CHUNK, kept // (CHUNK_COPIES * 4 * max(size.vocabulary, 1)))
        logits = CHUNK_COPIES * 4 * min(chunk, positions)
    of_position = size.vocabulary * number
    return (
        Line("logits of a chunk", logits * size.vocabulary, "update"),
        Line("kept probabilities", min(kept // max(of_position, 1), positions) * of_position, "update"),
    )


def _modes(spec: RunSpec) -> int:
    return 2 if isinstance(spec.algorithm, PolicySplit) else 1


def micro_batch_positions(spec: RunSpec) -> int:
    """Positions of the largest micro-batch, with the longest prompts and responses."""
    largest = spec.optimizer.tokens_per_micro_batch or LARGEST_MICRO_BATCH_TOKENS
    rollout = spec.rollout
    if isinstance(spec.algorithm, Taught):
        return min(largest, MICRO_BATCH_TOKENS)
    row = rollout.max_prompt_tokens + rollout.max_response_tokens
    group = _modes(spec) * (
        rollout.max_prompt_tokens + rollout.samples_per_prompt * rollout.max_response_tokens
    )
    if group > largest:
        return max(largest, row)
    return max(group, min(MICRO_BATCH_TOKENS, largest, group * rollout.prompts_per_step))
