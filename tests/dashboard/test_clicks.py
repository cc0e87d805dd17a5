"""What people do every day, from the page of jobs: three clicks at most each."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from app.core.db import write_session
from app.core.tables import Job
from app.rollouts.repository import upsert_rollouts
from tests.fixtures.api import Api, jsonl, on_sqlite, sums
from tests.fixtures.browser import tab
from tests.fixtures.experiments import fail, finish
from trainer.spec.events import RolloutRecord
from trainer.spec.modes import Mode

pytestmark = pytest.mark.timeout(900)

COUNT = """addEventListener("pointerdown", () => {
    sessionStorage.clicks = 1 + Number(sessionStorage.clicks ?? 0);
}, true)"""
MOST = 3


def job(api: Api, suffix: str) -> str:
    grader = {"type": "python", "name": "one", "source": "def grade(sample, item):\n    return 1.0\n"}
    body = {
        "model": "tiny",
        "suffix": suffix,
        "environment": {
            "type": "environment",
            "task": "chain_sum",
            "parameters": {"max_terms": 2},
            "size": 8,
        },
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader, "budget": {"steps": 20}}},
    }
    made = httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=body).raise_for_status()
    return made.json()["id"]


def rollout(group: int) -> RolloutRecord:
    """The third of them is surprising."""
    surprising = group == 2
    return RolloutRecord(
        group=group,
        item=group,
        index=0,
        mode=Mode.NORMAL,
        prompt="1 + 1?",
        response="unheard of" if surprising else "2",
        reward=1.0,
        tokens=1,
        truncated=False,
        token_texts=["unheard of" if surprising else "2"],
        entropies=[1.0],
        logprobs=[-9.0 if surprising else -0.1],
    )


def why_did_it_fail(page: Page) -> None:
    page.get_by_role("link", name="broken").click()
    expect(page.get_by_text("the grader broke").first).to_be_visible()


def compare_two(page: Page) -> None:
    page.get_by_label("Select first").check()
    page.get_by_label("Select second").check()
    page.get_by_role("link", name="Compare", exact=True).last.click()
    expect(page.get_by_label("Compared runs").locator("li")).to_have_count(2)


def most_surprising_rollout(page: Page) -> None:
    page.get_by_role("link", name="first").click()
    page.get_by_role("link", name="Rollouts").first.click()
    expect(page.locator(".response").first).to_contain_text("unheard of")


def clone_with_another_rate(page: Page) -> None:
    page.get_by_role("link", name="second").click()
    page.get_by_role("link", name="Clone").click()
    page.get_by_label("Learning rate").fill("2e-5")
    page.get_by_role("button", name="Create job").click()
    page.wait_for_url(re.compile("#/jobs/ftjob-"))


def upload_a_dataset(page: Page) -> None:
    page.get_by_role("link", name="Datasets").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    rows = jsonl(sums(2))
    chooser.value.set_files({"name": "sums.jsonl", "mimeType": "application/jsonl", "buffer": rows})
    expect(page.get_by_role("heading", name="sums.jsonl")).to_be_visible()


def make_an_experiment(page: Page) -> None:
    page.get_by_role("link", name="first").click()
    page.get_by_role("link", name="Experiment", exact=True).click()
    page.get_by_role("button", name="Create experiment").click()
    page.wait_for_url(re.compile("#/experiments/exp_"))


def make_a_key(page: Page) -> None:
    page.get_by_role("link", name="Settings").click()
    page.get_by_label("What is the key for?").fill("nightly")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_label("Secret")).to_be_visible()


# The key comes last: then nothing is answered without it.
TASKS: list[Callable[[Page], None]] = [
    *(why_did_it_fail, compare_two, most_surprising_rollout, clone_with_another_rate, upload_a_dataset),
    *(make_an_experiment, make_a_key),
]


@on_sqlite
def test_what_people_do_every_day_takes_three_clicks(browser: Browser, api: Api, tiny_model: Path):
    shutil.copy(tiny_model / "tokenizer.json", api.folder / "models/tiny")
    broken, first, second = (job(api, name) for name in ("broken", "first", "second"))
    fail(broken)
    for job_id in (first, second):
        finish(job_id, 0.5, 0, ("N", "H"))
    with write_session() as session:
        session.get_one(Job, first).step = 20
        upsert_rollouts(session, first, 20, [rollout(group) for group in range(4)])
    took = {}
    with tab(browser) as opened:
        page = opened.page
        page.add_init_script(COUNT)
        for task in TASKS:
            page.goto("about:blank")
            page.goto(f"{api.url}/#/jobs")
            expect(page.get_by_role("link", name="broken")).to_be_visible()
            page.evaluate("sessionStorage.clicks = 0")
            task(page)
            took[task.__name__] = int(page.evaluate("sessionStorage.clicks"))
            opened.settle()
    assert {task: clicks for task, clicks in took.items() if clicks > MOST} == {}
    assert min(took.values()) >= 1, "the clicks are counted"
    print(took)
