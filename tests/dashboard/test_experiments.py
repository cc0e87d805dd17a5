"""An experiment in a browser: its runs as a grid, and what may be said of them."""

import httpx
import pytest
from playwright.sync_api import Browser, expect

from app.experiments.expansion import start_runs
from tests.fixtures.api import Api, on_sqlite
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
