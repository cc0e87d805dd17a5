"""Pictures of the dashboard of a service that runs: ``python -m docs.site.pictures URL JOB``.

Takes those that the README and the guides show, such as of the demo. With ``--all FOLDER`` instead each page,
at each width and in both colour schemes, to be looked at; what axe finds serious in one is printed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, ViewportSize

from tests.fixtures.browser import launched, serious, tab

SHOWN = Path(__file__).parents[1] / "screenshots"
SCHEMES = ("light", "dark")
WIDTHS = (1440, 1280, 390)
#: Milliseconds for what is asked for and drawn once a page is there.
_DRAWN = 1200


def pages(job: str) -> Iterator[tuple[str, str]]:
    """Each page's name and address."""
    yield "jobs", "#/jobs"
    yield "job-new", "#/jobs/new"
    for tab_name in ("", "charts", "rollouts", "checkpoints", "events", "configuration"):
        yield f"run-{tab_name or 'overview'}", f"#/jobs/{job}/{tab_name}"
    yield "compare", f"#/compare?jobs={job}"
    yield "experiments", "#/experiments"
    yield "experiment-new", f"#/experiments/new?from={job}"
    yield "evals", "#/evals"
    yield "eval-new", "#/evals/new"
    yield "datasets", "#/datasets"
    yield "playground", "#/playground"
    yield "graders", "#/graders"
    for part in ("", "projects", "webhooks", "storage", "workers"):
        yield f"settings-{part or 'keys'}", f"#/settings/{part}"
    yield "not-found", "#/nowhere"


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of the service, such as http://127.0.0.1:8700")
    parser.add_argument("job", help="a job that has ended")
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="each page, instead of those that are shown"
    )
    parser.add_argument("--only", default="", help="of all, those whose names begin so")
    options = parser.parse_args()
    with launched() as browser:
        for scheme in SCHEMES:
            look = {"color_scheme": scheme, "base_url": options.url}
            if options.all is None:
                viewport = ViewportSize(width=1280, height=1180)
                with tab(browser, **look, viewport=viewport, device_scale_factor=1.25) as opened:
                    for name, part in (("run", "charts"), ("rollouts", "rollouts")):
                        _go(opened.page, f"#/jobs/{options.job}/{part}")
                        opened.page.screenshot(path=SHOWN / f"{name}-{scheme}.png")
                continue
            for width in WIDTHS:
                viewport = ViewportSize(width=width, height=900)
                with tab(browser, refusals=True, **look, viewport=viewport) as opened:
                    for name, address in pages(options.job):
                        if name.startswith(options.only):
                            _go(opened.page, address)
                            path = options.all / f"{name}-{width}-{scheme}.png"
                            opened.page.screenshot(path=path, full_page=True)
                            for fault in serious(opened.page):
                                print(f"{name} {width} {scheme}: {fault}")


def _go(page: Page, address: str) -> None:
    # By a page of its own: an address that differs behind the # alone loads nothing anew.
    page.goto("about:blank")
    page.goto(f"/{address}")
    page.locator("main").wait_for()
    page.wait_for_timeout(_DRAWN)


def _shot(page: Page, address: str, *, whole: bool = False) -> bytes:
    page.goto(f"/{address}")
    # An address that differs behind the # alone loads nothing anew.
    page.reload()
    page.locator("main").wait_for()
    page.wait_for_timeout(_DRAWN * 3)
    return page.screenshot(full_page=whole)


if __name__ == "__main__":
    main()
