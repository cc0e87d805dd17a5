"""An engine is killed again and again under load: ``make chaos-inference``.

16 clients stream without a pause while the engine's processes are killed with SIGKILL, 20 times. Every
request has to end in bounded time, with an answer, an error in its stream, or a 503 that says when to come
back; at the end the memory of gateway and inference worker is back to its level and no process is left over.
Exits with 1 where that is not so.
"""

import argparse
import asyncio
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.load.serving import Serving, serving

CLIENTS = 16
KILLS = 20
#: By default no request may take longer: back-off and cold start, and a slow machine.
BOUND_SECONDS = 120.0
GROWN_BYTES = 32 << 20


class Outcomes:
    """How requests ended, and the longest any took."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.longest = 0.0

    def add(self, how: str, seconds: float) -> None:
        self.counts[how] += 1
        self.longest = max(self.longest, seconds)


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model's folder, in Hugging Face format")
    parser.add_argument("--engine", choices=["vllm", "transformers"], default=None)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--bound", type=float, default=BOUND_SECONDS, help="seconds a request may take")
    options = parser.parse_args()
    engine = options.engine or ("vllm" if importlib.util.find_spec("vllm") else "transformers")
    with tempfile.TemporaryDirectory(prefix="policysplit-chaos-") as folder:
        with serving(Path(folder), options.model.resolve(), engine, "[]") as running:
            problems = asyncio.run(chaos(running, options.kills, options.bound))
        # Processes of the engine name the folder in their command or are in it.
        left = [p.pid for p in psutil.process_iter() if _is_below(p, folder)]
        if left:
            problems.append(f"processes left over: {left}")
    for problem in problems:
        print(f"FAILED: {problem}")
    return 1 if problems else 0


async def chaos(running: Serving, kills: int, bound: float) -> list[str]:
    """What went wrong."""
    outcomes, done = Outcomes(), asyncio.Event()
    timeout = aiohttp.ClientTimeout(bound)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        while await _one(session, running, 0) != "answered":
            await asyncio.sleep(1)
        before = _memory()
        clients = [asyncio.create_task(_client(session, running, n, outcomes, done)) for n in range(CLIENTS)]
        killed: set[int] = set()
        for number in range(kills):
            engine = await _until_answering(running, outcomes, killed)
            guard = psutil.Process(engine["pid"])
            processes = [one for one in guard.children(recursive=True) if not _has(one, "guard.py")]
            killed.update(process.pid for process in [guard, *processes])
            # The engine alone, its worker processes alone, or its guard: by turns.
            victims = [processes[:1], processes[-1:], [guard]][number % 3]
            for victim in victims:
                victim.kill()
            print(f"kill {number + 1}: {dict(outcomes.counts)}, longest {outcomes.longest:.1f} s", flush=True)
        await _until_answering(running, outcomes, killed)
        done.set()
        await asyncio.gather(*clients)
        await asyncio.sleep(2)
        after = _memory()
    problems = []
    if outcomes.longest >= bound:
        problems.append(f"a request took {outcomes.longest:.1f} s")
    if other := set(outcomes.counts) - {"answered", "error in the stream", "503 with retry-after"}:
        problems.append(f"requests ended otherwise: {other}")
    if after - before > GROWN_BYTES:
        problems.append(f"memory grew by {(after - before) / 1e6:.0f} MB")
    if alive := [pid for pid in killed if psutil.pid_exists(pid)]:
        problems.append(f"processes of ended engines live: {alive}")
    print(
        f"{sum(outcomes.counts.values())} requests: {dict(outcomes.counts)}; "
        f"longest {outcomes.longest:.1f} s; "
        f"memory of gateway and inference worker {before / 1e6:.0f} -> {after / 1e6:.0f} MB"
    )
    return problems


async def _client(
    session: aiohttp.ClientSession, running: Serving, number: int, outcomes: Outcomes, done: asyncio.Event
) -> None:
    while not done.is_set():
        began = time.monotonic()
        how = await _one(session, running, number)
        outcomes.add(how, time.monotonic() - began)
        if how.startswith("503"):
            await asyncio.sleep(0.5)


async def _one(session: aiohttp.ClientSession, running: Serving, number: int) -> str:
    """Stream one answer; how it ended."""
    body: dict[str, Any] = {
        "model": running.model,
        "messages": [{"role": "user", "content": f"Count from {number}."}],
        "max_tokens": 200,
        "stream": True,
    }
    try:
        async with session.post(f"{running.url}/v1/chat/completions", json=body) as response:
            text = await response.text()
            if response.status == 503:
                return "503 with retry-after" if "retry-after" in response.headers else "503 without"
            if response.status != 200:
                return f"{response.status}: {text[:200]}"
            if text.endswith("data: [DONE]\n\n"):
                return "answered"
            return "error in the stream" if '"error"' in text else "cut off"
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def _until_answering(running: Serving, outcomes: Outcomes, killed: set[int]) -> dict[str, Any]:
    """The engine that is up and under load, none of those that were killed."""
    while not (up := [one for one in await asyncio.to_thread(running.engines) if one["pid"] not in killed]):
        await asyncio.sleep(0.5)
    answered = outcomes.counts["answered"]
    while outcomes.counts["answered"] < answered + 2:
        await asyncio.sleep(0.05)
    return up[0]


def _memory() -> int:
    """Resident bytes of the gateway and the inference worker."""
    ours = [p for p in psutil.Process().children(recursive=True) if _is_ours(p)]
    return sum(process.memory_info().rss for process in ours)


def _is_ours(process: psutil.Process) -> bool:
    return _has(process, "app.main:served_app") or _has(process, "worker.inference")


def _has(process: psutil.Process, part: str) -> bool:
    """Whether the process was started with an argument that ends so."""
    try:
        return any(argument.endswith(part) for argument in process.cmdline())
    except psutil.Error:
        return False


def _is_below(process: psutil.Process, folder: str) -> bool:
    try:
        return process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(main())
