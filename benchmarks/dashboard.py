"""How fast the dashboard is: ``make bench-dashboard``.

In headless Chromium, on SQLite: first paint of the page, how long a run of 100,000 steps with 60 metrics
takes to open (every chart in sight drawn) and at how many frames a second it pans, and the page's weight.
Then the JSON routes while 200 pages are open on one API process: each page is what a browser's tab does, an
event stream and the job asked for every five seconds, on 20 jobs that do a step a second. No browser draws
those 200; they, the jobs' writer and who measures are processes of their own.
"""

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from playwright.sync_api import Browser

from app.core.db import write_session
from app.core.job_log import add_event
from app.core.migrate import upgrade_to_head
from app.core.tables import Job
from app.dashboard.assets import site
from app.series.repository import upsert_steps
from benchmarks.load.servers import our_api
from tests.fixtures.browser import DESKTOP, find_chromium, launched
from tests.fixtures.dashboard import OPENED, drag, pan_rate
from tests.fixtures.long_run import add_long_run

STEPS, SERIES = 100_000, 60
PAGES, RUNNING, POLL_SECONDS = 200, 20, 5.0
#: Until the pages' processes run and every page has been opened.
SETTLE_SECONDS = 2 * POLL_SECONDS
SHOWN = ["train/N/reward", "train/H/reward", "train/N/entropy_nats", "train/H/entropy_nats"]
# Functions and no expressions: those would be evaluated in the page, whose policy forbids it.
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
Row = tuple[str, str, str]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often the pages are opened")
    parser.add_argument("--seconds", type=float, default=20, help="how long the routes are asked")
    options = parser.parse_args()
    if find_chromium() is None:
        raise SystemExit("no Chromium on the PATH: scripts/browser.sh installs one")
    logging.getLogger("app.core.queue").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/bench.db"
        os.environ |= {"DATABASE_URL": database, "POLICYSPLIT_DATA_DIR": folder}
        upgrade_to_head(database)
        say(f"writing {STEPS:,} steps × {SERIES} metrics")
        long = add_long_run(STEPS, SERIES)
        running = [add_long_run(1000, 20, status="running", name=f"run-{n}") for n in range(RUNNING)]
        with our_api(Path(folder), database) as (url, _):
            say("opening pages")
            rows = in_browser(url, long, options.rounds)
            say(f"asking the routes beside {PAGES} pages")
            rows += routes(url, running, long, options.seconds)
    rows.append(("weight of everything the page loads", "< 300 KB", f"{site().weight / 1000:.0f} KB gzip"))
    print("| | target | measured |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_browser(url: str, job_id: str, rounds: int) -> list[Row]:
    """First paint, opening and panning, each in a fresh tab without a cache; medians."""
    paints, opens, rates = [], [], []
    with launched() as browser:
        for _ in range(rounds):
            paints.append(first_paint(browser, f"{url}/"))
            seconds, rate = opened(browser, f"{url}/#/jobs/{job_id}/charts")
            opens.append(seconds)
            rates.append(rate)
    return [
        ("first paint, jobs page", "< 1 s", f"{statistics.median(paints):.2f} s"),
        (f"{STEPS:,} steps × {SERIES} metrics open", "< 1.5 s", f"{statistics.median(opens):.2f} s"),
        ("the same, panned", "≥ 50 frames/s", f"{statistics.median(rates):.0f} frames/s"),
    ]


def first_paint(browser: Browser, address: str) -> float:
    """Seconds from the navigation's start to the first contentful paint."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("heading", level=1).wait_for()
    found = page.wait_for_function(PAINTED)
    seconds = float(found.json_value()) / 1000
    context.close()
    return seconds


def opened(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds from the navigation's start until the charts in sight are drawn; frames/s of a zoomed pan."""
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.goto(address)
    # Looked at with each frame, in the page.
    seconds = page.wait_for_function(f"() => ({OPENED})() && performance.now()").json_value() / 1000
    with page.expect_response(lambda answer: "from=" in answer.url and answer.ok):
        drag(page, 0.3, 0.6)
    page.get_by_role("button", name="Show all").wait_for()
    rate = pan_rate(page, 240)
    context.close()
    return seconds, rate


def routes(url: str, jobs: list[str], long: str, seconds: float) -> list[Row]:
    """The 99th percentile of each JSON route that pages ask, beside 200 of them."""
    base = f"{url}/v1/fine_tuning/jobs"
    addresses = [f"{base}/{job}" for job in jobs]
    with beside(step, jobs), beside(open_pages, addresses):
        time.sleep(SETTLE_SECONDS)
        taken = _asked(url, addresses, f"{base}/{long}", seconds)
    rows = []
    for name, times in taken.items():
        p99 = sorted(times)[int(0.99 * len(times))]
        rows.append((f"p99 of {name}, {PAGES} pages open", "< 100 ms", f"{p99 * 1000:.0f} ms"))
    return rows


@contextmanager
def beside(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """``target`` in a process of its own, so that what it does takes no time from who measures."""
    process = get_context("spawn").Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
        if not process.is_alive():
            raise RuntimeError(f"{target.__name__} ended with {process.exitcode}")
    finally:
        process.terminate()
        process.join()


def step(jobs: list[str]) -> None:
    """Each job does a step a second, as a worker writes it; without end."""
    number = 1000
    while True:
        began = time.monotonic()
        number += 1
        for job_id in jobs:
            values = dict.fromkeys(SHOWN, number / 2000)
            with write_session() as session:
                job = session.get_one(Job, job_id)
                job.step = min(number, job.total_steps)
                upsert_steps(session, job_id, {number: values})
                add_event(session, job_id, "info", "metrics", "step", {"step": number, "values": values})
        time.sleep(max(0.0, 1 - (time.monotonic() - began)))


def open_pages(jobs: list[str]) -> None:
    """What :data:`PAGES` open runs ask for: their events as they come, and now and then the job itself."""
    asyncio.run(_open_pages(jobs))


async def _open_pages(jobs: list[str]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
        await asyncio.gather(*(_page(session, jobs[n % len(jobs)], n) for n in range(PAGES)))


async def _page(session: aiohttp.ClientSession, job: str, number: int) -> None:
    async def listen() -> None:
        # As a page does, which knows what was before: the newest event is where it begins.
        async with session.get(f"{job}/events?limit=1") as answer:
            newest = (await answer.json())["data"][0]["id"]
        headers = {"last-event-id": newest}
        async with session.get(f"{job}/events?stream=true", headers=headers) as answer:
            async for _ in answer.content.iter_any():
                pass

    async def poll() -> None:
        await asyncio.sleep(POLL_SECONDS * number / PAGES)
        while True:
            async with session.get(job) as answer:
                await answer.read()
            await asyncio.sleep(POLL_SECONDS)

    await asyncio.gather(listen(), poll())


def _asked(url: str, jobs: list[str], long: str, seconds: float) -> dict[str, list[float]]:
    series = "&".join(f"name={name}" for name in SHOWN) + "&layout=columns&max_points=800"
    wanted = {
        "one job": jobs[0],
        "the list of jobs": f"{url}/v1/fine_tuning/jobs?limit=25",
        "a timeline": f"{jobs[1]}/timeline",
        f"a timeline of {STEPS:,} steps": f"{long}/timeline",
        "names of metrics": f"{jobs[2]}/metrics",
        "four series": f"{jobs[3]}/metrics?{series}",
    }
    taken: dict[str, list[float]] = {name: [] for name in wanted}
    with httpx.Client(timeout=60) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, address in wanted.items():
                began = time.perf_counter()
                client.get(address).raise_for_status()
                taken[name].append(time.perf_counter() - began)
                time.sleep(0.02)
    return taken


if __name__ == "__main__":
    main()
