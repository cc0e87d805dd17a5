"""The dashboard in a real browser beside the whole service: a job from the form to the playground."""

import json
import re
from collections.abc import Iterator

import httpx
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
        page.get_by_label("Samples per prompt").fill("3")
        expect(page.get_by_text("give an even number").first).to_be_visible()
        expect(page.get_by_role("button", name="Create job")).to_be_disabled()
        page.get_by_label("Samples per prompt").fill("4")
        page.get_by_label("Steps", exact=True).fill(str(STEPS))
        expect(page.get_by_text(f"Ready: {STEPS} steps")).to_be_visible()
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
        expect(page.locator(".run-head")).to_contain_text(f"step {STEPS} of {STEPS}")
        expect(page).to_have_title(f"from-the-form · succeeded · step {STEPS} of {STEPS} · Policysplit")
        expect(page.locator(".verdict")).to_contain_text("KL(H‖N)")
        assert page.evaluate("window.untouched") is True
    return found


TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

#: Address, title, and what is there once the page has what it asked for.
PAGES = [
    ("jobs", "Jobs", "tbody .job-reward svg"),
    ("jobs/new", "New job", ".note.tone-ok"),
    ("jobs/{}", "from-the-form", "[data-chart=reward] canvas"),
    ("jobs/{}/charts", "from-the-form", "[data-chart=reward] canvas"),
    ("jobs/{}/rollouts", "from-the-form", ".response"),
    ("jobs/{}/checkpoints", "from-the-form", "td .mono"),
    ("jobs/{}/events", "from-the-form", ".events li"),
    ("jobs/{}/configuration", "from-the-form", ".codebox"),
    ("experiments", "Experiments", ".empty .btn"),
    ("experiments/new", "New experiment", ".note.tone-ok"),
    ("evals", "Evals", ".empty .btn"),
    ("evals/new", "New eval", ".note.tone-ok"),
    ("datasets", "Datasets", ".drop"),
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
            # Another address after the # is not a new document: the page before stays until its views change.
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
        page.get_by_label("Difference between the modes").check()
        expect(page.get_by_role("heading", name="Difference")).to_be_visible()
        page.get_by_label("Search in prompts and responses").fill("no such text anywhere")
        expect(page.get_by_role("heading", name="No matching responses")).to_be_visible()
        # A part of every prompt, in another case; found in each step.
        page.get_by_label("Search in prompts and responses").fill("FINAL ANSWER")
        expect(page.locator(".entry")).to_have_count(2 * STEPS)
        expect(page.locator(".answer mark").first).to_have_text(re.compile("final answer", re.I))
        # Each in the order that is asked for, said in the address.
        page.get_by_label("Sort").select_option("Lowest reward")
        expect(page).to_have_url(re.compile("sort=lowest"))
        page.get_by_role("link", name="Over training").click()
        expect(page.get_by_role("searchbox")).to_have_value("")
        expect(page).to_have_url(re.compile(r"rollouts\?item=\d+$"))
        page.get_by_role("link", name="Try the grader").first.click()
        expect(page.get_by_label("Definition")).to_have_value(re.compile("has an e"))


def test_both_modes_answer_side_by_side(browser: Browser, base: str, job_id: str):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/{job_id}")
        page.get_by_role("link", name="Talk to both modes").click()
        page.get_by_label("Question").fill("<img src=x onerror=alert(1)> 1 + 1?")
        page.get_by_text("How to sample").click()
        page.get_by_label("Samples per mode").fill("2")
        page.get_by_label("Longest answer, tokens").fill("6")
        page.get_by_role("button", name="Ask both modes").click()
        sides = [page.get_by_label(f"Answers of {mode} mode") for mode in ("normal", "high-entropy")]
        for side in sides:
            expect(side.get_by_text("answers differ")).to_be_visible()
            expect(side.locator(".response")).to_have_count(2)
            expect(side).to_contain_text("tokens/s")
        # Equal answers are one, with how often it came.
        page.get_by_label("Samples per mode").fill("3")
        page.get_by_label("Temperature").fill("0")
        page.get_by_role("button", name="Ask both modes").click()
        for side in sides:
            expect(side.get_by_text("3 times")).to_be_visible()
            expect(side.locator(".response")).to_have_count(1)
            expect(side.get_by_text("1 of 3 answers differ")).to_be_visible()


def test_a_job_that_learns_from_rows_goes_from_the_form_to_its_page(
    browser: Browser, base: str, job_id: str, serve: ServeProcess
):
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "eee"}]}
        for n in range(8)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = serve.client().files.create(file=("lessons.jsonl", content), purpose="fine-tune")
    # Without a file, and with β in the form alone, a job is refused.
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{base}/#/datasets/{file.id}")
        page.get_by_role("link", name="Train on it").click()
        # The form begins with the method that the rows are for; another one does not offer them.
        expect(page.get_by_role("button", name="Answers")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Preferences").click()
        expect(page.get_by_label("β")).to_be_visible()
        expect(page.get_by_label("Validation file").locator(f"option[value={file.id}]")).to_have_count(0)
        expect(page.get_by_text("do not suit a dpo job").first).to_be_visible()
        page.get_by_role("button", name="Answers").click()
        expect(page.get_by_label("Definition")).to_have_count(0)
        page.get_by_label("Suffix").fill("lessons")
        page.get_by_label("Validation file").select_option(file.id)
        page.get_by_label("Epochs").fill("4")
        expect(page.get_by_text("Ready: 4 steps")).to_be_visible()
        assert serious(page) == []
        page.get_by_role("button", name="Create job").click()
        page.wait_for_url(re.compile("#/jobs/ftjob-"))
        expect(page.get_by_text("Succeeded").first).to_be_visible()
        expect(page.locator("[data-chart=lesson-loss] canvas")).to_be_visible()
        expect(page.locator(".run-head")).to_contain_text("supervised")
        expect(page.locator(".verdict")).to_contain_text("on validation rows")
        expect(page.get_by_role("link", name="Rollouts")).to_have_count(0)
        expect(page.locator("[data-chart=reward]")).to_have_count(0)
        assert serious(page) == []
        page.get_by_role("link", name="Checkpoints").click()
        expect(page.get_by_role("columnheader", name="Validation loss")).to_be_visible()
        page.get_by_role("link", name="Configuration").click()
        expect(page.locator(".codebox")).to_contain_text('"modes": "normal"')
        # Other tests of this service look at its list of jobs.
        (created,) = re.findall("ftjob-\\w+", page.url)
    httpx.delete(f"{base}/v1/fine_tuning/jobs/{created}").raise_for_status()


def test_a_chart_tells_the_values_of_a_step(browser: Browser, base: str, job_id: str):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/{job_id}/charts")
        chart = page.locator("[data-chart=reward]")
        legend = chart.locator(".legend")
        expect(legend.locator(".at")).to_have_text(f"step {STEPS}")
        box = chart.locator(".u-over").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] * 2 / STEPS, box["y"] + 50)
        expect(legend.locator(".at")).to_have_text("step 2")


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


def test_an_experiment_of_another_size_is_measured_before_it_is_made(
    browser: Browser, base: str, job_id: str
):
    """By the run where it is one like it; else a worker tries two steps of each kind of run."""
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/{job_id}")
        page.get_by_role("link", name="Experiment", exact=True).click()
        page.get_by_label("Items for choosing settings").fill("1")
        page.get_by_label("Items to compare on").fill("1")
        size = page.get_by_label("Size and duration")
        expect(size).to_contain_text(f"By {job_id}, of the same model and size.")
        expect(size.get_by_role("button", name="Measure")).to_have_count(0)
        page.get_by_label("Prompts per step").fill("1")
        expect(size).to_contain_text("not known yet")
        size.get_by_role("button", name="Measure").click()
        expect(size).to_contain_text("Measuring 1 of 2 kinds of run")
        expect(size).to_contain_text("about ")
        expect(size).to_contain_text("one run after another")


def test_jobs_are_filtered_cloned_and_cancelled_with_the_keyboard(browser: Browser, base: str, job_id: str):
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{base}/#/jobs/new?from={job_id}")
        page.get_by_label("Steps", exact=True).fill("100000")
        page.get_by_label("Suffix").fill("endless")
        page.get_by_text("Ready: 100,000 steps").wait_for()
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
        expect(page.get_by_role("heading", name="No matching jobs")).to_be_visible()
        # What differs between the two runs.
        page.goto(f"{base}/#/compare?jobs={job_id},ftjob-gone")
        page.get_by_label("Remove ftjob-gone").click()
        page.get_by_label("Search runs").fill("endless")
        page.get_by_label("endless").check()
        expect(page.get_by_label("Compared runs").locator("li")).to_have_count(2)
        last = page.get_by_role("region", name="Final metrics").locator("tbody tr").first.locator("td").nth(2)
        expect(last).to_be_visible()
        reward = httpx.get(f"{base}/v1/fine_tuning/jobs/{job_id}/metrics", params={"name": "train/N/reward"})
        # The last tenth of three steps is the third.
        value = reward.json()["data"][0]["points"][-1]["value"]
        assert float(last.inner_text()) == pytest.approx(value, rel=5e-3)
        expect(page.locator("tr.differs").filter(has_text="budget.steps")).to_contain_text("100000")
        # Several are ordered, chosen and removed; what is said of one finds it.
        page.goto(f"{base}/#/jobs/{job_id}")
        page.get_by_role("button", name="Add a note or tags").click()
        page.get_by_label("Tags").fill("keep, first")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("link", name="keep").click()
        names = page.locator(".job-name a")
        expect(names).to_have_text(["from-the-form"])
        page.goto(f"{base}/#/jobs?sort=name&order=asc")
        expect(names).to_have_text(["endless", "from-the-form"])
        page.get_by_role("button", name="Job").press("Enter")
        expect(names).to_have_text(["from-the-form", "endless"])
        query = {"sort": "high_entropy_reward"}
        best = httpx.get(f"{base}/v1/fine_tuning/jobs", params=query).json()["data"]
        rewards = [job["name"] for job in best]
        page.get_by_role("button", name="Reward, high-entropy mode").press("Enter")
        expect(page).to_have_url(re.compile("sort=high_entropy_reward$"))
        expect(names).to_have_text(rewards)
        expect(page.get_by_role("columnheader", name="Reward")).to_have_attribute("aria-sort", "descending")
        page.get_by_role("button", name="Reward, high-entropy mode").press("Enter")
        expect(names).to_have_text(rewards[::-1])
        assert serious(page) == []
        # On a phone, which shows no heads of columns, too.
        page.set_viewport_size(PHONE)
        page.get_by_label("Sort by").select_option("Name")
        expect(names).to_have_text(["endless", "from-the-form"])
        page.get_by_role("button", name="Rising").click()
        expect(names).to_have_text(["from-the-form", "endless"])
        page.set_viewport_size(DESKTOP)
        page.goto(f"{base}/#/jobs?sort=name&order=desc")
        expect(names).to_have_text(["from-the-form", "endless"])
        page.get_by_label("Select all").check()
        expect(page.get_by_role("link", name="Compare", exact=True).last).to_have_attribute(
            "href", re.compile(rf"jobs={job_id}%2Cftjob-")
        )
        page.get_by_label("Select from-the-form").uncheck()
        page.get_by_role("button", name="Delete 1").press("Enter")
        page.get_by_role("button", name="Delete 1 job").press("Enter")
        expect(names).to_have_text(["from-the-form"])
