"""An experiment in a browser: made from a run, watched as a grid, added to, and what may be said of it."""

import re

import httpx
import openai
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from app.core.db import write_session
from app.core.tables import Job
from app.dashboard.assets import site
from app.experiments.expansion import start_runs
from tests.fixtures.api import Api, create_job, on_sqlite, sums
from tests.fixtures.browser import PHONE, serious, tab
from tests.fixtures.experiments import definition, fail, finish

pytestmark = pytest.mark.timeout(900)

REQUEST = definition(name="Three arms", arms=["policy_split", "grpo_2x", "gspo"], seeds=[0, 1, 2, 3])


@on_sqlite
def test_an_experiment_is_watched_read_and_cancelled(browser: Browser, api: Api):
    made = httpx.post(f"{api.url}/v1/experiments", json=REQUEST).json()
    start_runs(made["id"])
    address = f"{api.url}/v1/experiments/{made['id']}"
    jobs = {(run["arm"], run["seed"]): run["job_id"] for run in httpx.get(address).json()["runs"]}
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/experiments")
        page.get_by_role("link", name="Three arms").click()
        expect(page.get_by_text("Nothing yet: no run has succeeded")).to_be_visible()
        page.evaluate("window.untouched = true")
        for (arm, seed), job_id in jobs.items():
            if seed < 3 or arm == "grpo_2x":
                finish(job_id, 0.8 if arm == "policy_split" else 0.4, seed, ("N",))
        # All of it comes by itself.
        headline = page.locator(".verdict .headline")
        expect(headline).to_have_text("No verdict yet: 2 of 12 planned runs have not ended.")
        grid = page.get_by_role("region", name="Runs")
        expect(grid.get_by_text("✓")).to_have_count(10)
        row = page.get_by_role("region", name="Arms on chain").locator("tbody tr").nth(1)
        expect(row).to_contain_text("no verdict yet")
        expect(row.locator(".interval.sure")).to_have_count(0)
        finish(jobs["policy_split", 3], 0.8, 3, ("N",))
        fail(jobs["gspo", 3])
        # A baseline without all of its seeds is not one that the claim is about.
        expect(headline).to_have_text("policy_split is better than grpo_2x on every task (chain).")
        expect(page.get_by_text("baselines without all planned seeds: gspo")).to_be_visible()
        expect(grid.get_by_label("gspo on chain, seed 3: Failed. the grader broke")).to_have_text("✕")
        expect(row).to_contain_text("to beat")
        expect(row.locator(".interval.sure")).to_be_visible()
        assert page.evaluate("window.untouched") is True
        assert serious(page) == []
        with page.expect_download() as saved:
            page.get_by_role("button", name="CSV").click()
        assert saved.value.suggested_filename == f"{made['id']}.csv"
        assert saved.value.path().read_text().startswith("task,")
        httpx.post(f"{address}/extend", json={"seeds": [4]}).raise_for_status()  # something to cancel again
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the experiment").click()
        expect(page.get_by_label("Progress").get_by_text("Cancelled", exact=True)).to_be_visible()
        grid.get_by_label("policy_split on chain, seed 0").click()
        expect(page.get_by_role("heading", name="policy_split on chain, seed 0")).to_be_visible()
        page.get_by_role("link", name="its experiment").click()
        expect(page.get_by_role("heading", name="Three arms")).to_be_visible()


RUN = {
    "model": "tiny",
    "suffix": "sums",
    "environment": {"type": "environment", "task": "chain_sum", "parameters": {"max_terms": 2}, "size": 50},
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {
                "type": "python",
                "name": "one",
                "source": "def grade(sample, item):\n    return 1.0\n",
            },
            "algorithm": {"type": "policy_split", "eta": 0.05},
            "rollout": {"prompts_per_step": 4, "samples_per_prompt": 4, "max_response_tokens": 8},
            "budget": {"steps": 20},
        },
    },
}


def finished_run(api: Api, seconds: float) -> str:
    """A job that took so long; its id."""
    job_id = httpx.post(f"{api.url}/v1/fine_tuning/jobs", json=RUN).raise_for_status().json()["id"]
    finish(job_id, 0.5, 0)
    with write_session() as session:
        job = session.get_one(Job, job_id)
        job.started_at, job.finished_at, job.step = 1000.0, 1000.0 + seconds, 20
    return job_id


def ready(page: Page, words: str) -> None:
    """Wait until the API has said so of what the form has."""
    expect(page.get_by_role("status").filter(has_text=words)).to_be_visible()


def shown_yaml(page: Page) -> dict:
    return yaml.safe_load(page.get_by_label("The same as a file, YAML").inner_text())


@on_sqlite
def test_an_experiment_is_made_from_a_run_by_two_clicks(browser: Browser, api: Api):
    """With the run's own settings, and nothing that is a default; the file beside it makes the same one."""
    job_id = finished_run(api, 600.0)
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs/{job_id}")
        page.get_by_role("link", name="Experiment", exact=True).click()
        expect(
            page.get_by_role("status").filter(has_text="Ready: 10 runs of 20 steps, about 1 h 40 min")
        ).to_be_visible()
        file = shown_yaml(page)
        page.get_by_role("button", name="Create experiment").click()
        page.wait_for_url(re.compile("#/experiments/exp_"))
        made = httpx.get(f"{api.url}/v1/experiments/{page.url.split('/')[-1]}").json()
    told = made["definition"]
    assert told["name"] == "policy_split beside grpo on chain_sum" and told["seeds"] == [0, 1, 2, 3, 4]
    assert told["reinforcement"]["algorithm"] == {"type": "policy_split", "eta": 0.05}
    assert (
        told["reinforcement"].keys() == {"grader", "algorithm", "rollout"} and told["budget"]["steps"] == 20
    )
    assert told["tasks"][0]["validation_environment"] is None, "drawn by the experiment"
    again = httpx.post(f"{api.url}/v1/experiments", json=file).raise_for_status().json()
    assert again["definition"] == told


@on_sqlite
def test_an_experiment_is_filled_in_and_what_is_wrong_is_said_at_its_field(browser: Browser, api: Api):
    finished_run(api, 600.0)
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/experiments")
        page.get_by_role("link", name="New experiment").click()
        # It begins with the newest run.
        expect(page.get_by_label("Start from")).to_have_value(re.compile("ftjob-"))
        create = page.get_by_role("button", name="Create experiment")
        for field, wrong, words, right in (
            ("seeds", "0-2, x", "'x'", "0-2"),
            ("tasks.0.environment.task", "chain_som", "chain_sum", "chain_sum"),
            ("split.test", "0", "greater than or equal to 1", "32"),
            ("reinforcement.rollout.samples_per_prompt", "3", "give an even number", "4"),
            ("metric", "loss", "accuracy, reward", "reward"),
        ):
            page.locator(f"[id='{field}']").fill(wrong)
            expect(page.locator(f"[id='{field}-error']")).to_contain_text(words.replace("'", '"'))
            expect(create).to_be_disabled()
            page.locator(f"[id='{field}']").fill(right)
            expect(page.locator(f"[id='{field}-error']")).to_have_count(0)
        page.get_by_role("button", name="Remove grpo").click()
        expect(page.locator("[id='arms-error']")).to_contain_text("at least 2 items")
        for arm in ("grpo_2x", "gspo"):
            page.get_by_label("Arms", exact=True).last.select_option(arm)
        page.get_by_label("Compare with").select_option("grpo_2x")
        size = page.get_by_label("Size and duration")
        expect(size).to_contain_text("9 3 arms × 1 task × 3 seeds")
        expect(size).to_contain_text("about 1 h 30 min")
        assert serious(page) == []
        file = shown_yaml(page)
        assert file["name"] == "policy_split beside grpo_2x beside gspo on chain_sum"
        assert (file["arms"], file["seeds"]) == (["policy_split", "grpo_2x", "gspo"], [0, 1, 2])
        assert file["compare"] == {"against": "grpo_2x"} and file["metric"] == "reward"
        create.click()
        expect(page.get_by_role("heading", name=file["name"])).to_be_visible()
        # What is there already is told, and is not added again.
        page.get_by_role("button", name="Seeds or arms").click()
        add = page.get_by_role("button", name="Add runs")
        ready(page, "Ready: 6 runs")
        page.get_by_label("Seeds to add").fill("0, 1")
        expect(page.get_by_text("Nothing new")).to_be_visible()
        expect(add).to_be_disabled()
        page.get_by_label("Seeds to add").fill("3")
        page.get_by_label("Arms to add").select_option("grpo")
        expect(
            page.get_by_role("status").filter(has_text="Ready: 7 runs of 20 steps, about 1 h 10 min")
        ).to_be_visible()
        assert serious(page) == []
        add.click()
        expect(page.get_by_label("grpo on chain_sum, seed 3")).to_be_visible()
        expect(page.get_by_label("Progress")).to_contain_text("/ 16")
        page.set_viewport_size(PHONE)
        page.goto(f"{api.url}/#/experiments/new?from=new")
        expect(page.get_by_label("Start from")).to_have_value("new")
        ready(page, "Ready: 10 runs of 100 steps.")
        expect(page.get_by_text("not known yet")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@on_sqlite
def test_a_run_on_a_file_is_compared_on_its_validation_file(
    browser: Browser, api: Api, client: openai.OpenAI
):
    """As far as that has items; a run without one is told where to give it."""
    training, few = api.upload(client, sums(40)), api.upload(client, sums(20))
    create_job(client, api, training, suffix="bare")
    create_job(client, api, training, suffix="whole", validation_file=few)
    with tab(browser, refusals=True) as opened:
        page = opened.page
        for name in ("bare", "whole"):
            page.goto(f"{api.url}/#/jobs")
            page.get_by_role("link", name=name, exact=True).click()
            page.get_by_role("link", name="Experiment", exact=True).click()
            if name == "bare":
                wrong = page.locator("[id='tasks.0.validation_file-error']")
                expect(wrong).to_contain_text("has no validation data")
                expect(page.get_by_role("button", name="Create experiment")).to_be_disabled()
        ready(page, "Ready: 10 runs")
        file = shown_yaml(page)
    assert file["split"] == {"dev": 4, "test": 16}
    assert file["tasks"] == [{"name": "train", "training_file": training, "validation_file": few}]


#: What YAML reads as something else where it stands as it is, or cannot hold.
HOSTILE = [
    *("yes", "No", "true", "null", "~", "y", "1", "1e3", "0x1f", "1:30", "2020-01-01", ".inf", "=", "<<"),
    *(
        "-",
        "- a",
        "a: b",
        "a #b",
        "# a",
        "[a",
        "{a}",
        "a, b",
        "%a",
        "@a",
        "`a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "?",
    ),
    *("'", '"', "a'b", 'a"b', "\\n", "", " ", "a ", " a", "a\tb", "ü", "😀", "a" * 200, "a b " * 60),
    *("a\nb", "a\nb\n", "a\nb\n\n", "\na", "  a\nb", "a\n  b\n\nc", "a \nb", "a\r\nb", "\n", "# a\nb"),
    *("\u2028", "a\u2028b\nc", "\x85", "a\x85b\nc", "\x7f", "\x00", "\ufeff", "\ufffe"),
]


@on_sqlite
def test_yaml_is_read_as_the_value_that_it_was_made_of(browser: Browser, api: Api):
    values = [
        {
            "text": text,
            text: [text, {"inner": text, "list": [text, 1.5, None, True]}],
            "deep": {"er": {text: text}},
        }
        for text in HOSTILE
    ]
    values += [
        {"numbers": [0, -1, 1e300, 1e-9, 12345678901], "empty": [], "none": {}, "mixed": [[], [[1]], {}]}
    ]
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/experiments")
        script = "([address, values]) => import(address).then(({ yaml }) => values.map((one) => yaml(one)))"
        texts = page.evaluate(script, [f"/dashboard/{site().digest}/core/yaml.js", values])
    assert [yaml.safe_load(text) for text in texts] == values
