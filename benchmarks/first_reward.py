"""How long a newcomer waits for the first reward: ``python benchmarks/first_reward.py``.

Clones this repository into a temporary folder, makes an environment, does what the README's "A job of your
own" says, word for word, and prints when each part was done. Any Python runs it: there is no environment yet.
Ends with an error where port 8700, which the README names, is somebody's.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
PORT = 8700
Found = TypeVar("Found")
JOBS = f"http://127.0.0.1:{PORT}/v1/fine_tuning/jobs"


def main() -> None:
    """Print each part with the seconds since the beginning, and the first rewards."""
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", PORT)) == 0:
            sys.exit(f"Port {PORT} is in use; the README's job needs it.")
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        clone, own = Path(folder, "clone"), Path(folder, "own")
        own.mkdir()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        tell("cloned")
        subprocess.run(["make", "-s", "install"], cwd=clone, check=True, stdout=sys.stderr)
        tell("the environment is there")
        (_, serve), (_, prepare), (_, program), _ = blocks((clone / "README.md").read_text())
        environment = os.environ | {"PATH": f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}"}

        def start(command: str) -> None:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command.strip()}"],
                cwd=own,
                env=environment,
                stdout=sys.stderr,
                stderr=sys.stderr,
            )
            running.callback(_end, process)

        start(serve)
        _until(lambda: _answer(f"http://127.0.0.1:{PORT}/readyz"))
        tell("the service is ready")
        subprocess.run(["bash", "-ec", prepare], cwd=own, env=environment, check=True, stdout=sys.stderr)
        tell("the model and the rows are there")
        (own / "first.py").write_text(program)
        start("python first.py")
        (job,) = _until(lambda: _answer(JOBS).get("data"))
        tell(f"the job {job['id']} is created")
        rewards = _until(lambda: _first_rewards(job["id"]))
        tell("its first rewards: " + ", ".join(f"{name} {value:.2f}" for name, value in rewards.items()))


def blocks(readme: str) -> list[tuple[str, str]]:
    """Language and text of each block of the README's section "A job of your own"."""
    section = readme.partition("## A job of your own in five minutes\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.S)


def _until(ask: Callable[[], Found | None], limit: float = 900) -> Found:
    end = time.monotonic() + limit
    while not (found := ask()):
        if time.monotonic() > end:
            sys.exit("Nothing came within 15 minutes.")
        time.sleep(0.2)
    return found


def _answer(url: str) -> dict[str, Any]:
    """What the service says; nothing where it does not answer."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)
    return {}


def _first_rewards(job_id: str) -> dict[str, float]:
    """Of both modes; nothing before both have one."""
    names = ("train/N/reward", "train/H/reward")
    query = "&".join(f"name={quote(name, safe='')}" for name in names)
    series = _answer(f"{JOBS}/{job_id}/metrics?{query}").get("data", [])
    found = {one["name"]: one["points"][0]["value"] for one in series if one["points"]}
    return found if len(found) == len(names) else {}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    main()
