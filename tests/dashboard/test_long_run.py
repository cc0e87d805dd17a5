"""A run of 100,000 steps in a browser: it opens, zooms to its own points, and moves."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.fixtures.api import Api
from tests.fixtures.browser import tab
from tests.fixtures.dashboard import OPENED, pan_rate
from tests.fixtures.long_run import add_long_run

# As many series as the charts in sight have; make bench-dashboard has 60, and the times of an idle machine.
STEPS, SERIES = 100_000, 14
OPEN_SECONDS = 6.0
LEAST_RATE = 20.0


def zoom_in(page: Page) -> list[dict[str, Any]]:
    """Choose a tenth of the steps shown with the mouse; the series that the page then asks for."""
    box = page.locator("[data-chart=reward] .u-over").bounding_box()
    assert box is not None
    with page.expect_response(lambda answer: "from=" in answer.url and answer.ok) as refined:
        page.mouse.move(box["x"] + 100, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 50, steps=3)
        page.mouse.up()
    return refined.value.json()["data"]


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
def test_it_opens_and_pans(browser: Browser, api: Api):
    job_id = add_long_run(STEPS, SERIES)
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs/{job_id}")
        page.wait_for_function(OPENED)
        assert page.evaluate("performance.now()") / 1000 < OPEN_SECONDS
        assert page.get_by_text("100,000").first.is_visible()
        # Zoomed in twice, the points are the run's own and no longer thinned ones.
        zoom_in(page)
        series = zoom_in(page)
        assert {len(one["steps"]) for one in series} == {one["total_points"] for one in series}
        show_all = page.get_by_role("button", name="Show all")
        show_all.wait_for()
        assert pan_rate(page) > LEAST_RATE
        show_all.click()
        show_all.wait_for(state="detached")
