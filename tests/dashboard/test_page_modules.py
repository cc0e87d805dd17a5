"""What the page's modules make of what they get, by a browser and without a service."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from app.dashboard.assets import PREFIX, Asset, site
from tests.fixtures.browser import tab

MODULES = """(names) => Promise.all(names.map((name) =>
  import(new URL(name, document.querySelector("script[type=module]").src))))"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """The page with all its files, and nobody who answers what it asks."""
    files = {f"{PREFIX}{site().digest}/{name}": asset for name, asset in site().files.items()}

    def send(route: Route) -> None:
        path = route.request.url.removeprefix("http://page.test")
        asset: Asset | None = site().index if path == "/" else files.get(path)
        if asset is None:
            return route.fulfill(status=404, json={"error": {"message": "Nobody is here."}})
        return route.fulfill(body=asset.body, content_type=asset.media_type)

    with tab(browser, refusals=True) as opened:
        opened.page.route("**/*", send)
        opened.page.goto("http://page.test/")
        yield opened.page


@pytest.fixture(scope="module")
def judged(page: Page) -> Callable[..., dict[str, Any]]:
    """The page's verdict on series of one value a step, by topic."""

    def verdict(series: dict[str, list[float]], step: int = 100, **evaluation: int) -> dict[str, Any]:
        method = {"reinforcement": {"evaluation": evaluation}}
        job = {"status": "running", "progress": {"step": step, "total_steps": 100}, "method": method}
        said = page.evaluate(
            f"""async ([series, job]) => {{
              const [{{ distinctPair, verdict }}] = await ({MODULES})(["run/verdict.js"]);
              const points = (values) => ({{ steps: values.map((_, i) => i), values }});
              const get = (name) => series[name] && points(series[name]);
              return verdict(job, get, 0, null, distinctPair(Object.keys(series)));
            }}""",
            [series, job],
        )
        return {one["topic"]: one for one in said}

    return verdict


def test_the_verdict_says_how_many_right_answers_differ(judged: Callable[..., dict[str, Any]]):
    series = {
        "eval/N/distinct_right@2": [1, 1],
        "eval/H/distinct_right@2": [1, 2],
        "eval/N/distinct_right@8": [2.5, 1.25],
        "eval/H/distinct_right@8": [2.5, 4.125],
        "eval/N/distinct_right@16": [2, 2],
        "eval/mix/distinct_right@16": [3, 3],
    }
    said = judged(series)["Different right answers"]
    assert said["says"] == "H has 4.13 different right answers in 8, N 1.25"
    assert said["tone"] == "ok" and "at first H 2.50, N 2.50" in said["because"]
    series["eval/H/distinct_right@8"] = [6, 4.125]
    assert judged(series)["Different right answers"]["tone"] == "info", "it has fewer than at first"


def test_the_verdict_is_of_each_mode_by_validation(judged: Callable[..., dict[str, Any]]):
    rising, falling = [0.2, 0.9], [0.9, 0.2]
    series = {"train/N/reward": falling, "train/H/reward": rising, "eval/H/reward": falling}
    said = judged(
        series | {"eval/N/reward": rising, "eval/N/graded": [60, 50]}, max_items=40, samples_per_item=2
    )
    normal, high = said["Reward, normal"], said["Reward, high-entropy"]
    assert (normal["tone"], normal["says"]) == ("ok", "The normal mode is learning")
    assert "validation: 0.200 → 0.900" in normal["because"]
    assert "of 60 responses at step 0 and 50 responses at step 1" in normal["because"]
    assert (high["tone"], high["says"]) == ("warn", "The high-entropy mode has fallen")
    assert "of 80 responses" in high["because"], "as many as were planned where it is not said how many"
    assert high["tries"]["text"] and normal["tries"] is None
    # Without validation by training, and saying so.
    assert "training, not validated" in judged({"train/N/reward": rising})["Reward, normal"]["because"]


@pytest.mark.parametrize(
    ("course", "graded", "step", "says"),
    [
        ([0.2, 0.9], 20, 100, "Too early to tell whether the normal mode learns"),
        # Two errors of a mean of 64 at a half are 0.125 each, of their difference 0.18.
        ([0.45, 0.60], 64, 100, "Too few responses to tell whether the normal mode learns"),
        ([0.45, 0.65], 64, 100, "The normal mode is learning"),
        ([0.65, 0.45], 64, 100, "The normal mode has fallen"),
        ([0.45, 0.47], 1000, 10, "Too early to tell whether the normal mode learns"),
        ([0.45, 0.47], 1000, 100, "The normal mode has not moved"),
        ([0.98, 0.99], 1000, 100, "The normal mode was right from the start"),
    ],
)
def test_what_chance_could_have_done_is_not_learning(
    judged: Callable[..., dict[str, Any]], course: list[float], graded: float, step: int, says: str
):
    said = judged({"eval/N/reward": course, "eval/N/graded": [graded] * 2}, step)["Reward, normal"]
    assert said["says"] == says
    assert (said["tone"] == "ok") == (says == "The normal mode is learning")
    assert (said["tries"] is not None) == (said["tone"] == "warn")


def test_groups_come_in_the_order_that_is_asked_for(page: Page):
    def row(mode: str, **values: float | None) -> dict[str, Any]:
        return {"mode": mode, "reward": None, "surprisal": None, "entropy": None, "tokens": 1} | values

    groups = {
        "a": [row("normal", reward=1, surprisal=0.1), row("high-entropy", reward=0, surprisal=0.2)],
        "b": [row("normal", reward=0, surprisal=0.5, tokens=9), row("high-entropy", entropy=2)],
        "c": [row("normal", reward=1, surprisal=0.3), row("high-entropy", reward=1, entropy=1)],
        "d": [row("normal")],
    }
    wanted = {
        "surprise": "bcad",
        "reward": "cabd",
        "lowest": "bacd",
        "entropy": "bcad",
        "length": "bacd",
        "disagreement": "acbd",
        "drawn": "abcd",
    }
    found = page.evaluate(
        f"""async ([groups, names]) => {{
          const [{{ ordered }}] = await ({MODULES})(["rollouts/order.js"]);
          const first = ({{ key, rows }}) => [key, rows[0].surprisal];
          return names.map((name) => ordered(groups, name).map(first));
        }}""",
        [[{"key": key, "rows": rows} for key, rows in groups.items()], list(wanted)],
    )
    assert {name: "".join(key for key, _ in one) for name, one in zip(wanted, found, strict=True)} == wanted
    assert dict(found[0])["a"] == 0.2, "so do the responses"


def test_a_chart_has_no_value_off_its_step(page: Page):
    found = page.evaluate(
        f"""async () => {{
          const [{{ nearestIndex }}] = await ({MODULES})(["charts/align.js"]);
          const [steps, values] = [[10, 20, 24, 30, 40], [null, 2, null, 3, null]];
          return steps.map((_, i) => nearestIndex(steps, values, i));
        }}"""
    )
    assert found == [-1, 1, 1, 3, -1]


def test_a_run_begins_with_the_charts_of_its_method(page: Page):
    """Of a method's own series, each by its name; none of another's, and none without a chart."""
    taught = ("loss", "token_accuracy", "preference_accuracy", "preference_margin")
    series = [f"{where}/{name}" for where in ("train", "valid", "eval") for name in taught]
    shown = page.evaluate(
        f"""async ([series]) => {{
          const [{{ FIRST, chartsFor }}] = await ({MODULES})(["run/catalog.js"]);
          const ids = chartsFor(series).flatMap(([, , charts]) => charts.map((chart) => chart.id));
          const shown = (first) => first.filter((id) => ids.includes(id));
          return Object.entries(FIRST).map(([method, first]) => [method, shown(first)]);
        }}""",
        [series],
    )
    assert dict(shown) == {
        "reinforcement": [],
        "supervised": ["token-accuracy"],
        "dpo": ["loss", "preference", "preference-margin", "token-accuracy"],
    }
