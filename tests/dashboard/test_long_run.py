"""A run of 100,000 steps in a browser: it opens with few points, zooms to its own, and moves.

Its times are the benchmark's to measure (``make bench-dashboard``), on a machine that does nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.fixtures.api import Api, on_sqlite
from tests.fixtures.browser import tab
from tests.fixtures.dashboard import OPENED, drag, pan_rate
from tests.fixtures.long_run import add_long_run

pytestmark = pytest.mark.timeout(900)

# As many series as the charts in sight have; the benchmark has 60.
STEPS, SERIES = 100_000, 14
#: Points of a series over the whole run: about as many as a chart has pixels.
MOST_POINTS = 800
#: Of the plot's width: what is left when it is chosen twice comes unthinned.
PART = 0.25, 0.3


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


def range_of(url: str) -> range:
    """The part of the steps that a request wants; empty where it wants no part but all."""
    query = parse_qs(urlsplit(url).query)
    return range(int(query["from"][0]), int(query["to"][0]) + 1) if "from" in query else range(0)


def zoom_in(page: Page, wider: range) -> tuple[range, list[dict[str, Any]]]:
    """Choose a part of the steps shown; the steps, fewer than ``wider``, and series that the page asks for.

    What it asked for before, for a wider range, may be answered meanwhile.
    """
    with page.expect_response(lambda answer: 0 < len(range_of(answer.url)) < len(wider)) as refined:
        drag(page, *PART)
    return range_of(refined.value.url), refined.value.json()["data"]


def pan_right(page: Page) -> None:
    """With the keyboard, by a tenth of what is shown; the words above the charts say so a little later."""
    shown = page.locator(".toolbar").get_by_text("steps ", exact=False).last
    before = shown.inner_text()
    page.locator("[data-chart=reward] .plot").press("ArrowRight")
    expect(shown).not_to_have_text(before)


@on_sqlite
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
        steps, _ = zoom_in(page, range(STEPS))
        _, series = zoom_in(page, steps)
        assert {len(one["steps"]) for one in series} == {one["total_points"] for one in series}
        show_all = page.get_by_role("button", name="Show all")
        expect(show_all).to_be_visible()
        pan_right(page)
        assert pan_rate(page) > 0
        show_all.click()
        expect(show_all).to_be_hidden()


@on_sqlite
def test_a_range_that_was_left_is_not_waited_for(browser: Browser, api: Api):
    job_id = add_long_run(STEPS, 1)
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    with tab(browser) as opened:
        page = opened.page
        page.route(lambda url: bool(range_of(url)), hold_the_first)
        page.goto(f"{api.url}/#/jobs/{job_id}")
        page.wait_for_function(OPENED)
        with page.expect_request(lambda asked: bool(range_of(asked.url))) as first:
            drag(page, *PART)
        with page.expect_event("requestfailed", lambda failed: failed.url == first.value.url):
            zoom_in(page, range_of(first.value.url))
