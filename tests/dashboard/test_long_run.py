"""A run of 100,000 steps in a browser: it opens, zooms to its own points, and moves."""

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


def drag_over(page: Page, chart: str, start: float, end: float) -> None:
    """Choose a range of steps with the mouse; pixels from the chart's left."""
    box = page.locator(chart).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + start, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + end, box["y"] + 50, steps=3)
    page.mouse.up()


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
        for _ in range(2):
            with page.expect_response(lambda answer: "from=" in answer.url and answer.ok) as refined:
                drag_over(page, "[data-chart=reward] .u-over", 100, 120)
        series = refined.value.json()["data"]
        assert {len(one["steps"]) for one in series} == {one["total_points"] for one in series}
        show_all = page.get_by_role("button", name="Show all")
        show_all.wait_for()
        assert pan_rate(page) > LEAST_RATE
        show_all.click()
        show_all.wait_for(state="detached")
