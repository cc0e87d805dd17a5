"""A run of 100,000 steps in a browser: it opens with few points, zooms to its own, and moves.

Its times are the benchmark's to measure (``make bench-dashboard``), on a machine that does nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.fixtures.api import Api
from tests.fixtures.browser import tab
from tests.fixtures.dashboard import OPENED, pan_rate
from tests.fixtures.long_run import add_long_run

pytestmark = pytest.mark.timeout(900)

# As many series as the charts in sight have; the benchmark has 60.
STEPS, SERIES = 100_000, 14
#: Points of a series over the whole run: about as many as a chart has pixels.
MOST_POINTS = 800


@contextmanager
def series_loaded(page: Page) -> Iterator[list[Response]]:
    """The answers with points of series that the page gets meanwhile."""
    found: list[Response] = []

    def note(response: Response) -> None:
        if "/metrics?name=" in response.url:
            found.append(response)

    page.on("response", note)
    yield found
    page.remove_listener("response", note)


def zoom_in(page: Page) -> list[dict[str, Any]]:
    """Choose a part of the steps shown with the mouse; the series that the page then asks for."""
    box = page.locator("[data-chart=reward] .u-over").bounding_box()
    assert box is not None
    with page.expect_response(lambda answer: "from=" in answer.url and answer.ok) as refined:
        page.mouse.move(box["x"] + 100, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 50, steps=3)
        page.mouse.up()
    return refined.value.json()["data"]


def pan_right(page: Page) -> None:
    """With the keyboard, by a tenth of what is shown; the words above the charts say so a little later."""
    shown = page.locator(".toolbar").get_by_text("steps ", exact=False).last
    before = shown.inner_text()
    page.locator("[data-chart=reward] .plot").press("ArrowRight")
    expect(shown).not_to_have_text(before)


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
def test_it_opens_zooms_and_pans(browser: Browser, api: Api):
    job_id = add_long_run(STEPS, SERIES)
    with tab(browser) as opened:
        page = opened.page
        with series_loaded(page) as answers:
            page.goto(f"{api.url}/#/jobs/{job_id}")
            page.wait_for_function(OPENED)
            expect(page.get_by_text("100,000").first).to_be_visible()
            series = [one for answer in answers for one in answer.json()["data"]]
        names = [one["name"] for one in series]
        assert len(names) == len(set(names)), "no series is asked for twice"
        # The verdict asks for what every run has, and this one has not.
        assert {one["total_points"] for one in series} == {0, STEPS}
        assert all(len(one["steps"]) <= MOST_POINTS for one in series)
        # Zoomed in twice, the points are the run's own and no longer thinned ones.
        zoom_in(page)
        series = zoom_in(page)
        assert {len(one["steps"]) for one in series} == {one["total_points"] for one in series}
        show_all = page.get_by_role("button", name="Show all")
        expect(show_all).to_be_visible()
        pan_right(page)
        assert pan_rate(page) > 0
        show_all.click()
        expect(show_all).to_be_hidden()
