"""Tokens per second of the rollout engines: the built-in one, transformers' ``generate``, and vLLM.

``python -m benchmarks.rollouts --model DIR`` lets each in turn sample what a step samples, 64 responses in
both modes that end by themselves or at 128 tokens, and prints medians over the rounds, and the ratio of the
first engine to each other in the same round, with the range. "generate" has prompts padded on the left.
"trainer-vllm" is vLLM as the trainer runs it; "vllm" is a plain ``LLM.generate`` with the same requests and
options in a process of its own, "vllm-bare" without the seeds and log-probs that training needs. All have
the same threads.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from trainer.model.policy import Policy, load_policy
from trainer.rollout.engine import RolloutEngine, SampleRequest
from trainer.rollout.transformers_engine import TransformersEngine
from trainer.rollout.vllm_engine import VllmEngine
from trainer.rollout.vllm_protocol import Draw, Generate, Setup
from trainer.spec.model import ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT, Mode
from trainer.spec.run import RolloutSpec

QUESTIONS = (
    *("What is 6 + 5?", "What is 17 - 9? Say the number.", "Is 91 a prime?", "What is 12 times 3?"),
    *("Tell me about rain.", "How is bread made?", "Name three rivers.", "Why do clocks tick?"),
)
SAMPLES_PER_MODE = 4
WARM_UP_TOKENS = 4
ENGINES = ("trainer-vllm", "vllm", "vllm-bare", "built-in", "generate")
ROLLOUT = RolloutSpec(engine="vllm", max_prompt_tokens=256, max_response_tokens=128)

#: (seconds, tokens) of one batch.
Measured = tuple[float, int]
#: Of the batch with this number, with at most so many tokens a response.
Measure = Callable[[int, int], Measured]


def requests(policy: Policy, seed: int) -> list[SampleRequest]:
    """What a step of policy_split asks for."""
    found = []
    for question in QUESTIONS:
        for mode in Mode:
            prompt = tuple(policy.prompt_ids([{"role": "user", "content": question}], mode))
            found += [SampleRequest(prompt, 1000 * seed + len(found) + i) for i in range(SAMPLES_PER_MODE)]
    return found


def of_engine(engine: RolloutEngine, policy: Policy) -> Measure:
    """Measure an engine as the trainer calls it."""

    def measure(number: int, limit: int) -> Measured:
        asked = requests(policy, number)
        began = time.perf_counter()
        samples = engine.generate(asked, max_tokens=limit, temperature=1.0)
        return time.perf_counter() - began, sum(len(sample.response_ids) for sample in samples)

    return measure


def of_generate(policy: Policy, spec: ModelSpec) -> Measure:
    """Measure transformers' ``generate`` on a model as transformers loads it."""
    model: Any = AutoModelForCausalLM.from_pretrained(spec.path, dtype=spec.dtype).eval()

    @torch.inference_mode()
    def measure(number: int, limit: int) -> Measured:
        prompts = [request.prompt_ids for request in requests(policy, number)]
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), policy.pad_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        torch.manual_seed(number)
        began = time.perf_counter()
        found = model.generate(
            ids, attention_mask=mask, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=limit
        )
        seconds = time.perf_counter() - began
        stop = torch.isin(found[:, longest:], torch.tensor(sorted(policy.stop_ids)))
        ended = stop.int().cumsum(dim=1) - stop.int()
        return seconds, int((ended == 0).sum())

    return measure


def vllm_alone(connection: Connection, setup: Setup) -> None:
    """In a process of its own: answer each batch with its (seconds, tokens)."""
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    from trainer.rollout.vllm_process import engine_options

    llm = LLM(**engine_options(setup))
    connection.send("ready")
    while True:
        asked, bare = connection.recv()
        parameters = [
            SamplingParams(
                max_tokens=draw.max_tokens,
                stop_token_ids=asked.stop_ids,
                detokenize=False,
                **({} if bare else {"seed": draw.seed, "logprobs": 0}),
            )
            for draw in asked.draws
        ]
        prompts: list[Any] = [{"prompt_token_ids": list(draw.prompt_ids)} for draw in asked.draws]
        llm.reset_prefix_cache()
        began = time.perf_counter()
        found = llm.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - began
        connection.send((seconds, sum(len(output.outputs[0].token_ids) for output in found)))


@contextmanager
def process_of_vllm_alone(setup: Setup) -> Iterator[Connection]:
    """The connection to ``vllm_alone``, once it is ready."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=vllm_alone, args=(theirs, setup), daemon=True
    )
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def of_vllm_alone(connection: Connection, policy: Policy, bare: bool) -> Measure:
    """Measure vLLM in the process of ``vllm_alone``."""

    def measure(number: int, limit: int) -> Measured:
        draws = [Draw(request.prompt_ids, request.seed, limit) for request in requests(policy, number)]
        connection.send((Generate(draws, sorted(policy.stop_ids), 1.0, 1.0, None), bare))
        return connection.recv()

    return measure


def report(rounds: list[dict[str, Measured]]) -> None:
    """Print the table."""
    names = list(rounds[0])
    speeds = {name: [tokens / seconds for seconds, tokens in (r[name] for r in rounds)] for name in names}
    ours = speeds[names[0]]
    print(f"{'engine':<30}{'tokens/s':>10}{'min':>8}{'max':>8}{'ours / it':>12}{'min':>8}{'max':>8}")
    for name in names:
        ratios = [a / b for a, b in zip(ours, speeds[name], strict=True)]
        columns = [statistics.median(speeds[name]), min(speeds[name]), max(speeds[name])]
        print(
            f"{name:<30}{columns[0]:>10.1f}{columns[1]:>8.1f}{columns[2]:>8.1f}"
            f"{statistics.median(ratios):>12.3f}{min(ratios):>8.3f}{max(ratios):>8.3f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=ENGINES,
        default=["built-in", "generate", "vllm"],
        help="the first is compared with the others",
    )
    options = parser.parse_args()
    model = ModelSpec(path=str(options.model), dtype=options.dtype)
    policy = load_policy(model, DEFAULT_HIGH_ENTROPY_PROMPT)
    with closing(VllmEngine(policy, model, ROLLOUT)) as engine, ExitStack() as started:
        measures = {"trainer-vllm": of_engine(engine, policy)}
        if {"vllm", "vllm-bare"} & set(options.engines):
            alone = started.enter_context(process_of_vllm_alone(engine.setup))
            measures["vllm"] = of_vllm_alone(alone, policy, bare=False)
            measures["vllm-bare"] = of_vllm_alone(alone, policy, bare=True)
        measures["built-in"] = of_engine(TransformersEngine(policy), policy)
        measures["generate"] = of_generate(policy, model)
        measures = {name: measures[name] for name in options.engines}
        for measure in measures.values():
            measure(0, WARM_UP_TOKENS)
        rounds, sync_seconds = [], []
        for number in range(1, options.rounds + 1):
            began = time.perf_counter()
            engine.sync()
            sync_seconds.append(time.perf_counter() - began)
            of_round = {
                name: measure(number, ROLLOUT.max_response_tokens) for name, measure in measures.items()
            }
            told = (f"{name} {tokens} tokens in {s:.1f} s" for name, (s, tokens) in of_round.items())
            print(f"round {number}: {'; '.join(told)}", flush=True)
            rounds.append(of_round)
        report(rounds)
        print(f"new weights to the engine: {statistics.median(sync_seconds):.2f} s", flush=True)


if __name__ == "__main__":
    # As the trainer: threads that wait sleep, for here is more than one process with threads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    main()
