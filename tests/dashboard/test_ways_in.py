"""Ways into the pages: keys, addresses, and what was typed before."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.fixtures.api import Api, Keyed, on_sqlite
from tests.fixtures.browser import tab
from tests.fixtures.hub import Hub

pytestmark = pytest.mark.timeout(900)


@on_sqlite
def test_the_key_dialog_stays_closed_until_it_is_wanted(browser: Browser, keyed: Keyed):
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{keyed.api.url}/#/jobs")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert")).to_be_visible()
        with page.expect_response(lambda answer: answer.status == 401):
            page.get_by_role("button", name="Try again").click()
        page.get_by_role("link", name="Graders").click()
        expect(page.get_by_role("heading", name="Graders")).to_be_visible()
        expect(dialog).to_have_count(0)
        page.get_by_role("link", name="Jobs").first.click()
        page.get_by_role("button", name="Give a key").click()
        page.get_by_label("API key").fill(keyed.secrets[0])
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("heading", name="No jobs yet")).to_be_visible()
        assert keyed.secrets[0] not in page.url


@on_sqlite
def test_a_mistyped_address_says_what_there_is_not(browser: Browser, api: Api):
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs/%zz")
        expect(page.get_by_role("alert")).to_contain_text("%zz")
        for address in ("jobs/x/y", "jobs/x/charts/z", "%e0%a4/b"):
            page.goto(f"{api.url}/#/{address}")
            expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


@on_sqlite
def test_the_playground_keeps_what_was_typed(browser: Browser, api: Api):
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/playground")
        page.get_by_label("Question").fill("What is 6 + 5?")
        page.get_by_text("How to sample").click()
        page.get_by_label("Samples per mode").fill("3")
        page.get_by_role("link", name="Graders").click()
        expect(page).to_have_title(re.compile("Graders"))
        page.goto(f"{api.url}/#/playground")
        page.reload()
        expect(page.get_by_label("Question")).to_have_value("What is 6 + 5?")
        expect(page.locator("#set-n")).to_have_value("3")


@on_sqlite
def test_who_has_no_model_gets_one_where_it_is_missed(
    browser: Browser, api: Api, hub: Hub, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    """Looked up by name, fetched with progress, then there to be asked and trained."""
    hub.repositories |= dict.fromkeys(("team/tiny", "team/other"), tiny_model)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    shutil.rmtree(api.folder / "models" / "tiny")
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs/new")
        expect(
            page.get_by_role("status").filter(has_text="There are no models yet: get one from the list")
        ).to_be_visible()
        expect(page.get_by_role("button", name="Get SmolLM2-135M-Instruct")).to_be_visible()
        page.goto(f"{api.url}/#/playground")
        expect(page.get_by_role("heading", name="No models available")).to_be_visible()
        expect(page.get_by_role("button", name="Get SmolLM2-135M-Instruct")).to_be_visible()
        page.get_by_label("by its name on the model hub").fill("team/none")
        page.get_by_role("button", name="Look it up").click()
        expect(page.get_by_role("alert")).to_contain_text("The model hub does not have team/none")

        page.get_by_label("by its name on the model hub").fill("team/tiny")
        page.get_by_label("by its name on the model hub").press("Enter")
        row = page.get_by_role("row").filter(has_text="team/tiny")
        expect(row).to_contain_text("mit")
        hub.held.clear()
        row.get_by_role("button", name="Get team/tiny").click()
        expect(page.get_by_role("progressbar", name="team/tiny")).to_be_visible()
        page.get_by_role("button", name="Cancel", exact=True).click()
        page.get_by_role("button", name="Cancel the download").click()
        expect(page.get_by_role("progressbar", name="team/tiny")).to_have_count(0)
        page.get_by_label("by its name on the model hub").fill("team/tiny")
        # Until then what has come is still being removed.
        expect(page.get_by_role("button", name="Look it up")).to_be_enabled()
        page.get_by_label("by its name on the model hub").press("Enter")
        row.get_by_role("button", name="Get team/tiny").click()
        expect(page.get_by_role("progressbar", name="team/tiny")).to_be_visible()
        hub.held.set()
        expect(page.locator("#model")).to_have_value("team/tiny", timeout=20_000)

        page.goto(f"{api.url}/#/jobs/new")
        expect(page.get_by_label("Model to train")).to_have_value("team/tiny")
        page.get_by_text("Get another model").click()
        page.get_by_label("by its name on the model hub").fill("team/other")
        page.get_by_label("by its name on the model hub").press("Enter")
        page.get_by_role("button", name="Get team/other").click()
        expect(page.get_by_label("Model to train")).to_have_value("team/other", timeout=20_000)
        expect(page).to_have_url(f"{api.url}/#/jobs/new")
