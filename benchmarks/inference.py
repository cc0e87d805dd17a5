"""What the gateway adds to an engine: ``make bench-inference``, or ``python -m benchmarks.inference``.

The same requests go to the engine directly and through the gateway and the inference worker, on the loopback
interface, in turns and with the same seeds: alone, for the time to the first token, and 32 at once, for the
throughput. Then conversations in the high-entropy mode, for the share of its prompt that vLLM has in its
prefix cache. Load, gateway, worker and engine share the machine's cores, so what the gateway computes the
engine lacks: on a machine with few cores this is the worst case.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from benchmarks.load.endpoint import Endpoint
from benchmarks.load.serving import START_SECONDS, Serving, serving
from benchmarks.load.streams import Timings, round_of

STREAMS = 32
ALONE = 40
ROUNDS = 4


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model's folder, in Hugging Face format")
    parser.add_argument("--engine", choices=["vllm", "transformers"], default=None)
    parser.add_argument("--arguments", default="[]", help="more arguments of the engine, a JSON list")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--alone", type=int, default=ALONE, help="streams by themselves, to each endpoint")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each endpoint, in turns")
    options = parser.parse_args()
    engine = options.engine or ("vllm" if importlib.util.find_spec("vllm") else "transformers")
    with (
        tempfile.TemporaryDirectory(prefix="policysplit-bench-") as folder,
        serving(Path(folder), options.model.resolve(), engine, options.arguments) as running,
    ):
        asyncio.run(measure(running, engine, options))


async def measure(running: Serving, engine: str, options: argparse.Namespace) -> None:
    """Every measurement, on one engine that is up."""
    timeout = aiohttp.ClientTimeout(START_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        contextlib.AsyncExitStack() as stack,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        gateway = Endpoint("gateway", f"{running.url}/v1/chat/completions", {"model": running.model})
        await round_of(session, gateway, list(requests(1, 4)), 1)  # starts the engine
        (up,) = running.engines()
        own = {"model": "model"} if engine == "vllm" else {}
        direct = Endpoint("direct", "http://engine/v1/chat/completions", own)
        at_once = STREAMS if engine == "vllm" else 1
        to_engine = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.UnixConnector(up["socket"], limit=0)
        )
        sessions = {"gateway": session, "direct": await stack.enter_async_context(to_engine)}
        for endpoint in (direct, gateway):
            await round_of(sessions[endpoint.name], endpoint, list(requests(at_once, 8)), at_once)

        alone: dict[str, Timings] = {"direct": Timings(), "gateway": Timings()}
        for body in requests(options.alone, 2):
            for endpoint in (direct, gateway):
                one = await round_of(sessions[endpoint.name], endpoint, [body], 1)
                alone[endpoint.name].first_token += one.first_token
        seen = {name: round(_ms(one.first_token), 1) for name, one in alone.items()}
        print(f"first token, one stream, median ms: {json.dumps(seen)}", flush=True)
        many: dict[str, list[Timings]] = {"direct": [], "gateway": []}
        for number in range(options.rounds):
            # In turns, and whoever was second is first the next time.
            for endpoint in (direct, gateway) if number % 2 == 0 else (gateway, direct):
                bodies = list(requests(2 * at_once, options.tokens, first=1000 * (number + 1)))
                many[endpoint.name].append(await round_of(sessions[endpoint.name], endpoint, bodies, at_once))
                rate = many[endpoint.name][-1].tokens_per_second
                print(f"round {number + 1}, {endpoint.name}: {rate:.1f} tokens per second", flush=True)
        table(alone, many, at_once)
        if engine == "vllm":
            await prefix_cache(session, running, gateway)
    same = [engine["pid"] for engine in running.engines()] == [up["pid"]]
    print(f"\nafter requests in both modes the engine is the same process: {same}")


def requests(count: int, tokens: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Bodies of ``count`` different conversations."""
    for number in range(first, first + count):
        question = f"Tell me a story about the number {number} and what became of it."
        yield {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": tokens,
            "temperature": 1.0,
            "seed": number,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def table(alone: dict[str, Timings], many: dict[str, list[Timings]], at_once: int) -> None:
    """Print what was measured."""
    rows = [
        (
            "first token, one stream, median ms",
            [_ms(alone[name].first_token) for name in ("direct", "gateway")],
        ),
        (
            f"first token, {at_once} streams, median ms",
            [_ms([t for one in many[name] for t in one.first_token]) for name in ("direct", "gateway")],
        ),
    ]
    print("\n| | direct | gateway | added |\n|---|---|---|---|")
    for label, (direct, gateway) in rows:
        print(f"| {label} | {direct:.1f} | {gateway:.1f} | {gateway - direct:+.1f} ms |")
    rates = {name: [one.tokens_per_second for one in many[name]] for name in many}
    direct, gateway = (statistics.median(rates[name]) for name in ("direct", "gateway"))
    print(
        f"| tokens a second, {at_once} streams, median of rounds | {direct:.0f} | {gateway:.0f} | "
        f"{gateway / direct - 1:+.1%} |"
    )


async def prefix_cache(session: aiohttp.ClientSession, running: Serving, gateway: Endpoint) -> None:
    """Print the share of prompts that comes from the prefix cache, by mode."""
    for mode in ("normal", "high-entropy"):
        endpoint = Endpoint(mode, gateway.url, {**gateway.body, "mode": mode})
        await round_of(session, endpoint, list(requests(1, 1, first=9000)), 1)
        before = _counters(running)
        await round_of(session, endpoint, list(requests(STREAMS, 1, first=9100)), STREAMS)
        after = _counters(running)
        hits, asked = (after[name] - before[name] for name in ("hits", "queries"))
        print(
            f"\n{mode} mode, {STREAMS} conversations after the first: "
            f"{hits:.0f} of {asked:.0f} prompt tokens "
            f"({hits / asked:.0%}) from the prefix cache"
        )


def _counters(running: Serving) -> dict[str, float]:
    (engine,) = running.engines()
    with httpx.Client(transport=httpx.HTTPTransport(uds=engine["socket"])) as client:
        lines = client.get("http://engine/metrics").raise_for_status().text.splitlines()
    return {
        name: sum(
            float(line.split()[-1]) for line in lines if line.startswith(f"vllm:prefix_cache_{name}_total")
        )
        for name in ("hits", "queries")
    }


def _ms(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
