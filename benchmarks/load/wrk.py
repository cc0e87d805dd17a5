"""As many requests as the server takes: ``wrk`` where it is installed, else a generator in Python."""

import asyncio
import re
import shutil
import subprocess

from benchmarks.load.paced import requests_per_second


def throughput(url: str, headers: dict[str, str], *, seconds: float, connections: int) -> float:
    """Requests answered a second; raises RuntimeError when any was not answered with 200."""
    if shutil.which("wrk") is None:
        return asyncio.run(requests_per_second(url, headers, seconds=seconds, connections=connections))
    given = [option for name, value in headers.items() for option in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", *given, url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{url} did not answer every request with success:\n{said}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def generator() -> str:
    """What makes the load."""
    return "wrk" if shutil.which("wrk") else "Python"
