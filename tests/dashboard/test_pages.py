"""The dashboard in a real browser beside the whole service: a job from the form to the playground."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.fixtures.browser import DESKTOP, PHONE, serious, tab
from tests.fixtures.service import ServeProcess

# The first test starts the service and has it train.
pytestmark = pytest.mark.timeout(900)

STEPS = 3
BODY = {
    "model": "tiny",
    "suffix": "from-the-form",
    "seed": 1,
    "environment": {"type": "environment", "task": "chain_sum", "parameters": {"max_terms": 2}, "size": 8},
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {
                "type": "string_check",
                "name": "has an e",
                "input": "{{sample.output_text}}",
                "operation": "ilike",
                "reference": "e",
            },
            "rollout": {"prompts_per_step": 2, "samples_per_prompt": 4, "max_response_tokens": 8},
            "evaluation": {"max_items": 2},
            "diagnostics": {"interval": 0},
            "preflight": {"on_zero_variance": "warn"},
            "budget": {"steps": 5},
        },
    },
}


@pytest.fixture(scope="module")
def base(serve: ServeProcess) -> Iterator[str]:
    """The address of the page."""
    yield serve.base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def job_id(browser: Browser, base: str) -> str:
    """A job that was filled in, checked, created and watched to its end in the browser."""
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs")
        expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        page.get_by_role("link", name="New job").click()
        page.get_by_text("Everything, as JSON").click()
        page.get_by_label("Body of the request").fill(json.dumps(BODY))
        expect(page.get_by_label("Steps", exact=True)).to_have_value("5")
        # What the API refuses is said at the field, before anything is created.
        page.get_by_label("Samples a prompt").fill("3")
        expect(page.get_by_text("give an even number").first).to_be_visible()
        expect(page.get_by_role("button", name="Create job")).to_be_disabled()
        page.get_by_label("Samples a prompt").fill("4")
        page.get_by_label("Steps", exact=True).fill(str(STEPS))
        expect(page.get_by_text(f"The API would take this: {STEPS} steps")).to_be_visible()
        code = page.get_by_label("The same in code, Python")
        expect(code).to_contain_text("client.fine_tuning.jobs.create(")
        expect(code).to_contain_text(f'"budget": {{"steps": {STEPS}}}')
        page.get_by_role("button", name="Create job").click()
        page.wait_for_url(re.compile("#/jobs/ftjob-"))
        found = page.url.split("/jobs/")[1]
        # The page is not loaded again: what it shows from here on came by itself.
        page.evaluate("window.untouched = true")
        expect(page.get_by_text("Succeeded").first).to_be_visible()
        expect(page.locator("[data-chart=reward] canvas")).to_be_visible()
        expect(page.locator(".run-facts")).to_contain_text(f"{STEPS} of {STEPS}")
        expect(page.locator(".verdict")).to_contain_text("KL(H‖N)")
        assert page.evaluate("window.untouched") is True
    return found


TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

#: Address, title, and what is there once the page has what it asked for.
PAGES = [
    ("jobs", "Jobs", "tbody .job-reward svg"),
    ("jobs/new", "New job", ".note.tone-ok"),
    ("jobs/{}", "from-the-form", "[data-chart=reward] canvas"),
    ("jobs/{}/rollouts", "Rollouts", ".response"),
    ("experiments", "Experiments", ".empty code"),
    ("compare?jobs={}", "Compare", "[data-chart=compare-reward] canvas"),
    ("playground", "Playground", "#prompt"),
    ("graders", "Graders", "#grader"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_a_phone(browser: Browser, base: str, job_id: str, scheme: str):
    with tab(browser, color_scheme=scheme) as opened:
        page = opened.page
        for address, title, content in PAGES:
            page.goto(f"{base}/#/{address.format(job_id)}")
            # Another address after the # is no new document: the page before is there until its views change.
            expect(page.get_by_role("heading", level=1)).to_contain_text(title)
            expect(page.locator(content).first).to_be_visible()
            assert serious(page) == [], address
            page.set_viewport_size(PHONE)
            # Charts follow a change of their width a frame later.
            page.evaluate(TWO_FRAMES)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], f"{address} is {width} px wide on a phone"
            page.set_viewport_size(DESKTOP)


def test_rollouts_are_read_searched_and_compared(browser: Browser, base: str, job_id: str):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/{job_id}/rollouts")
        expect(page.get_by_label("Step", exact=True).first).to_have_value(str(STEPS))
        expect(page.locator(".response")).to_have_count(4)
        page.get_by_role("button", name="Step before").click()
        expect(page).to_have_url(re.compile("step=2"))
        page.get_by_role("button", name="Entropy", exact=True).click()
        tokens = page.locator(".tokens").first.locator("span")
        expect(tokens.first).to_have_attribute("title", re.compile(r"entropy \d"))
        page.get_by_label("Difference of the modes").check()
        expect(page.get_by_role("heading", name="Difference")).to_be_visible()
        page.get_by_label("Search in prompts and responses").fill("no such text anywhere")
        expect(page.get_by_role("heading", name="No response fits")).to_be_visible()
        # A part of every prompt, in another case; found in each step.
        page.get_by_label("Search in prompts and responses").fill("FINAL ANSWER")
        expect(page.locator(".entry")).to_have_count(2 * STEPS)
        page.get_by_role("link", name="Try the grader").first.click()
        expect(page.get_by_label("Definition")).to_have_value(re.compile("has an e"))


def test_both_modes_answer_side_by_side(browser: Browser, base: str, job_id: str):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/{job_id}")
        page.get_by_role("link", name="Talk to both modes").click()
        page.get_by_label("Question").fill("<img src=x onerror=alert(1)> 1 + 1?")
        page.get_by_text("Settings").click()
        page.get_by_label("Samples a mode").fill("2")
        page.get_by_label("Longest answer, tokens").fill("6")
        page.get_by_role("button", name="Ask both modes").click()
        for mode in ("normal", "high-entropy"):
            side = page.get_by_label(f"Answers of {mode} mode")
            expect(side.get_by_text("answers differ")).to_be_visible()
            expect(side.locator(".response")).to_have_count(2)
            expect(side).to_contain_text("tokens/s")


def test_a_grader_is_tried(browser: Browser, base: str):
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{base}/#/graders")
        page.get_by_role("button", name="Grade it").click()
        result = page.get_by_label("Result")
        expect(result).to_contain_text("1.000")
        page.get_by_label("What the model wrote").fill("twelve")
        page.get_by_role("button", name="Grade it").click()
        expect(result.locator(".big")).to_have_text("0")
        page.get_by_label("Definition").fill('{"type": "string_check"}')
        page.get_by_role("button", name="Grade it").click()
        expect(page.get_by_role("alert")).to_contain_text("Missing required parameter")


def test_jobs_are_filtered_cloned_and_cancelled_with_the_keyboard(browser: Browser, base: str, job_id: str):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/new?from={job_id}")
        page.get_by_label("Steps", exact=True).fill("100000")
        page.get_by_label("Suffix").fill("endless")
        page.get_by_text("The API would take this: 100000 steps").wait_for()
        page.get_by_role("button", name="Create job").press("Enter")
        expect(page.locator(".live")).to_be_visible()
        expect(page.locator("[data-chart=reward] canvas")).to_be_visible()
        page.get_by_role("button", name="Cancel").press("Enter")
        page.get_by_role("button", name="Cancel the job").press("Enter")
        expect(page.get_by_text("The run was cancelled").first).to_be_visible()
        page.goto(f"{base}/#/jobs")
        box = page.get_by_role("searchbox")
        expect(box).to_be_visible()
        page.keyboard.press("/")
        expect(box).to_be_focused()
        page.keyboard.type("endless")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.get_by_role("button", name="Succeeded").press("Enter")
        expect(page.get_by_role("heading", name="No job fits")).to_be_visible()
        # What differs between the two runs.
        page.goto(f"{base}/#/compare?jobs={job_id}")
        page.get_by_label("endless").check()
        expect(page.locator("tr.differs").filter(has_text="budget.steps")).to_contain_text("100000")
