"""``make attack``: what strangers may try against the service, tried on a real one that listens on loopback.

A service is started in a folder of its own that every user of the machine can enter. Payloads in texts that
libraries evaluate; a web page in Chromium; another user of the machine; a neighbour who asks too much. Prints
a table, and ends with status 1 when something got through. What cannot be tried here is said.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from app.core.db import build_engine, read_session
from app.core.tables import InferenceWorker
from tests.attack import neighbours, other_user, pages, payloads
from tests.attack.attempt import Attempt
from tests.fixtures.browser import find_chromium, launched
from tests.fixtures.service import POLICYSPLIT, ServeProcess, run_cli

PARTS = ("payloads", "pages", "other-user", "neighbours")
_JOB = {
    "model": "tiny",
    "environment": {"type": "environment", "task": "chain_sum", "size": 8},
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {
                "type": "string_check",
                "name": "x",
                "input": "{{sample.output_text}}",
                "operation": "eq",
                "reference": "1",
            }
        },
    },
}


def main() -> int:
    """Try all of it, or what ``--only`` names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--seed", type=int, default=0, help="of the payloads' order")
    options = parser.parse_args()
    table, console = Table("kind", "attempt", "held", "what was seen"), Console(width=150)
    missed = total = 0
    for attempt in _attempts(options.only, options.seed):
        held = "[green]yes[/]" if attempt.held else "[red]NO[/]"
        table.add_row(attempt.kind, attempt.name, held, attempt.seen)
        total, missed = total + 1, missed + (not attempt.held)
    console.print(table)
    console.print(f"{total} attempts, {total - missed} held, {missed} got through")
    return 1 if missed else 0


def _attempts(parts: list[str], seed: int) -> Iterator[Attempt]:
    if "payloads" in parts:
        yield from payloads.attempts(seed)
    if not set(parts) & set(PARTS[1:]):
        return
    with tempfile.TemporaryDirectory(prefix="policysplit-attack-") as folder:
        Path(folder).chmod(0o755)  # its parent keeps nobody out: the data directory has to
        data_dir = Path(folder) / "data"
        (data_dir / "models" / "tiny").mkdir(parents=True, mode=0o755)
        (data_dir / "models" / "tiny" / "config.json").write_text("{}")
        service = ServeProcess(data_dir, POLICYSPLIT)
        service.start()
        try:
            base = service.base_url.removesuffix("/v1")
            if "pages" in parts:
                yield from _pages(base)
            if "other-user" in parts:
                yield from _other_user(data_dir)
            if "neighbours" in parts:
                yield from neighbours.attack(base, *_keys(base, data_dir))
        finally:
            service.stop()


def _pages(base: str) -> Iterator[Attempt]:
    if find_chromium() is None:
        print("pages: not tried, there is no Chromium on the PATH (scripts/browser.sh)", file=sys.stderr)
        return
    job = httpx.post(f"{base}/v1/fine_tuning/jobs", json=_JOB, timeout=60).raise_for_status().json()["id"]
    # One that waits stays as it is, if nobody cancels it.
    httpx.post(f"{base}/v1/fine_tuning/jobs/{job}/pause", timeout=60).raise_for_status()
    while httpx.get(f"{base}/v1/fine_tuning/jobs/{job}").json()["status"] not in ("paused", "failed"):
        time.sleep(0.2)
    with launched(*pages.FLAGS) as browser:
        yield from pages.attack(browser, base, job)


def _other_user(data_dir: Path) -> Iterator[Attempt]:
    if not other_user.can_become_another():
        print("other user: not tried, only root can become another user", file=sys.stderr)
        return
    database = build_engine(f"sqlite:///{data_dir / 'policysplit.db'}")
    with read_session(database) as session:
        workers = [row.url for row in session.query(InferenceWorker)]
    database.dispose()
    sockets = [path / "http" for path in Path(tempfile.gettempdir()).glob("policysplit-engine-*")]
    yield from other_user.attack(data_dir, workers, sockets)


def _keys(base: str, data_dir: Path) -> tuple[str, str]:
    """Of two projects; returns when the service asks for one."""
    where = ("--data-dir", str(data_dir))
    run_cli("projects", "create", "Neighbour", *where)
    made = [
        run_cli("keys", "create", "--name", "x", "--project", project, *where).stdout.strip()
        for project in ("Neighbour", "proj_default")
    ]
    while httpx.get(f"{base}/v1/models").status_code != 401:
        time.sleep(0.2)
    return made[0], made[1]


if __name__ == "__main__":
    sys.exit(main())
