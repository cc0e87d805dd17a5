"""Settings: keys that are made, copied once and revoked; projects, webhooks, and what is on the disk."""

import re
import time

import httpx
import openai
import pytest
from playwright.sync_api import Browser, Page, expect

from app.accounting.counting import Amounts, Place, add, day_of
from app.core.db import write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, Job
from app.keys.service import create_key
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums, until_status
from tests.fixtures.browser import PHONE, serious, tab
from tests.fixtures.fleet import inference_worker, training_worker

pytestmark = pytest.mark.timeout(900)
KEY = "policysplit.key"


def looks_right(page: Page) -> None:
    """Nobody is kept from using it, and a phone shows all of it."""
    assert serious(page) == []
    before = page.viewport_size
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert serious(page) == []
    assert before is not None
    page.set_viewport_size(before)


def with_key(page: Page, secret: str) -> None:
    page.add_init_script(f"sessionStorage.setItem('{KEY}', '{secret}')")


def status(api: Api, key: str | None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.get(f"{api.url}/v1/files", headers=headers).status_code


@on_sqlite
def test_the_first_key_is_made_in_three_clicks_and_the_tab_goes_on_with_it(browser: Browser, api: Api):
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs")
        page.get_by_role("link", name="Settings").click()
        expect(page.get_by_text("This service has no keys")).to_be_visible()
        looks_right(page)
        page.get_by_label("What is the key for?").fill("nightly")
        page.get_by_role("button", name="Make the key").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This tab continues with this one")
        secret = dialog.get_by_label("Secret").inner_text()
        # A click beside it does not lose what is nowhere else.
        page.mouse.click(5, 5)
        expect(dialog).to_be_visible()
        assert serious(page) == []
        dialog.get_by_role("button", name="Copy").click()
        assert page.evaluate("navigator.clipboard.readText()") == secret
        dialog.get_by_role("button", name="Done").click()
        row = page.get_by_label("Keys").locator("tbody tr")
        expect(row).to_contain_text("nightly")
        expect(row).to_contain_text("operator")
        assert status(api, secret) == 200
        until_status(api, 401)
        # What is shown from here on was asked with it; and it is in no address.
        page.get_by_role("link", name="Projects").click()
        page.get_by_label("Name of a new project").fill("Research")
        page.get_by_role("button", name="Make the project").click()
        expect(page.get_by_label("Projects", exact=True).get_by_role("row", name="Research")).to_be_visible()
        looks_right(page)
        assert secret not in page.url and secret not in page.content()
        page.get_by_role("row", name="Research").get_by_role("link", name="Make a key").click()
        expect(page.get_by_label("Project", exact=True).locator("option:checked")).to_have_text("Research")


@on_sqlite
def test_a_key_is_revoked_after_a_question(browser: Browser, keyed: Keyed):
    mine = keyed.secrets[0]
    other = create_key("old laptop", DEFAULT_PROJECT)[1]
    with tab(browser, refusals=True) as opened:
        page = opened.page
        with_key(page, mine)
        page.goto(f"{keyed.api.url}/#/settings")
        rows = page.get_by_label("Keys").locator("tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="in use here")).to_contain_text("mine")
        expect(page.get_by_text("An operator's key")).to_have_count(0)
        row = rows.filter(has_text="old laptop")
        expect(row).to_contain_text("never")
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("button", name="Keep it").click()
        assert status(keyed.api, other) == 200
        row.get_by_role("button", name="Revoke").click()
        looks_right(page)
        page.get_by_role("button", name="Revoke the key").click()
        expect(rows).to_have_count(1)
        expect(page.get_by_text("1 revoked key")).to_be_visible()
        until_status(keyed.api, 401, other)
        page.get_by_role("link", name="Projects").click()
        expect(page.get_by_text("policysplit projects create NAME")).to_be_visible()
        expect(page.get_by_text("Strangers")).to_have_count(0)
        for bad in ("x/y", "users"):
            page.goto(f"{keyed.api.url}/#/settings/{bad}")
            expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


@on_sqlite
def test_a_webhook_is_added_tried_and_deleted(
    browser: Browser, api: Api, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(get_settings(), "webhook_allowed_hosts", ["127.0.0.1"])
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/settings/webhooks")
        expect(page.get_by_role("heading", name="No webhooks yet")).to_be_visible()
        page.get_by_label("Name").fill("team chat")
        page.get_by_label("Address").fill("ftp://x")
        page.get_by_label("cancelled").uncheck()
        page.get_by_role("button", name="Add the webhook").click()
        expect(page.locator("#hook-url-error")).to_contain_text("Invalid value for 'url'")
        # What answers there takes no such request, and says so.
        page.get_by_label("Address").fill(f"{api.url}/v1/hooks")
        page.get_by_role("button", name="Add the webhook").click()
        secret = page.get_by_role("dialog").get_by_label("Secret").inner_text()
        assert secret.startswith("whsec_")
        page.get_by_role("button", name="Done").click()
        card = page.get_by_label("Webhook team chat")
        card.get_by_role("button", name="Send a sample").click()
        expect(card.get_by_role("status")).to_contain_text(re.compile(r"sample event with 40\d"))
        job = create_job(client, api, api.upload(client, sums()))
        client.fine_tuning.jobs.cancel(job.id)
        page.reload()
        expect(card.get_by_text("Nothing has been sent yet.")).to_be_visible()
        looks_right(page)
        card.get_by_role("button", name="New secret").click()
        page.get_by_role("button", name="Give a new secret").click()
        renewed = page.get_by_role("dialog").get_by_label("Secret")
        expect(renewed).to_have_text(re.compile("whsec_"))
        assert renewed.inner_text() != secret
        page.get_by_role("button", name="Done").click()
        (endpoint,) = client.webhooks.list().data
        types = httpx.get(f"{api.url}/v1/webhook_event_types").json()["data"]
        assert endpoint.event_types == [one for one in types if one != "fine_tuning.job.cancelled"]
        card.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete the webhook").click()
        expect(page.get_by_role("heading", name="No webhooks yet")).to_be_visible()


@on_sqlite
def test_storage_shows_what_there_is_and_what_goes(
    browser: Browser, api: Api, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(get_settings(), "retain_files_days", 3.0)
    job = create_job(client, api, api.upload(client, sums()), suffix="large")
    api.upload(client, sums(9))
    with write_session() as session:
        session.get_one(Job, job.id).disk_bytes = 3 << 30
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/settings/storage")
        use = page.get_by_label("In use")
        for text in ("3.00 GiB", "1 job", "2 files", "100 %", "< 0.01 %"):
            expect(use).to_contain_text(text)
        expect(page.get_by_label("Largest runs").get_by_role("link", name="large")).to_be_visible()
        kept = page.get_by_label("Removed automatically").locator("tbody tr")
        expect(kept.filter(has_text=re.compile("^Rollouts"))).to_contain_text("for ever")
        expect(kept.filter(has_text="Uploads")).to_contain_text("3 days after the upload")
        expect(kept.filter(has_text="Uploads")).to_contain_text("1 file")
        looks_right(page)


@on_sqlite
def test_workers_are_seen_and_drained_and_a_job_says_what_it_waits_for(browser: Browser, api: Api):
    with api.client() as client:
        job_id = create_job(client, api, api.upload(client, sums(2)), suffix="waits").id
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/jobs/{job_id}")
        expect(page.get_by_text("No worker is connected")).to_be_visible()
        page.get_by_role("link", name="See the workers").click()
        expect(page.get_by_role("heading", name="No worker is connected")).to_be_visible()
        looks_right(page)
        training_worker("gpu-1:7:aa", slots=2)
        inference_worker()
        row = page.get_by_role("row", name="gpu-1:7:aa")
        expect(row).to_contain_text("0 of 2 slots")
        expect(page.get_by_label("Queue")).to_contain_text("A slot is free")
        expect(page.get_by_label("Next")).to_contain_text("waits")
        looks_right(page)
        row.get_by_role("button", name="Drain").click()
        expect(page.get_by_label("Queue")).to_contain_text("All workers are draining")
        row.get_by_role("button", name="Take jobs again").click()
        expect(row).to_contain_text("online")


@on_sqlite
def test_only_the_operator_sees_a_button_to_drain(browser: Browser, keyed: Keyed):
    operator = create_key("operator", DEFAULT_PROJECT, operator=True)[1]
    training_worker("gpu-1:7:aa")
    for secret, buttons in ((keyed.secrets[0], 0), (operator, 1)):
        with tab(browser) as opened:
            with_key(opened.page, secret)
            opened.page.goto(f"{keyed.api.url}/#/settings/workers")
            expect(opened.page.get_by_role("row", name="gpu-1:7:aa")).to_be_visible()
            opened.settle()
            expect(opened.page.get_by_role("button", name="Drain")).to_have_count(buttons)


@on_sqlite
def test_what_was_used_is_drawn_and_priced_and_a_project_is_limited(browser: Browser, api: Api):
    """Sums by day as bars, by project in a table with costs; and all of it is in the audit log."""
    now = time.time()
    with write_session() as session:
        used = Amounts(seconds=7200.0, gpu_seconds=7200.0, trained_tokens=1_500_000)
        add(session, Place(DEFAULT_PROJECT, day_of(now), "ftjob-a", "tiny"), used)
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/settings/usage")
        expect(page.get_by_label("GPU-hours", exact=True)).to_contain_text("2.00 h")
        expect(page.get_by_text("No prices are set")).to_be_visible()
        page.get_by_role("button", name="Set prices").click()
        page.get_by_label("A GPU-hour").fill("2.5")
        looks_right(page)
        page.get_by_role("button", name="Set from today on").click()
        expect(page.get_by_label("By what").get_by_role("row", name="Default")).to_contain_text("5.000 EUR")
        page.get_by_role("button", name="Job", exact=True).click()
        expect(page.get_by_role("link", name="ftjob-a")).to_be_visible()
        page.get_by_role("link", name="Projects").click()
        page.get_by_role("button", name="Limits").click()
        page.get_by_label("GPU-hours a month").fill("0.5")
        page.get_by_label("Storage, GB").fill("2")
        assert serious(page) == []
        page.get_by_role("button", name="Change", exact=True).click()
        row = page.get_by_role("row", name="Default")
        expect(row).to_contain_text("0.500 GPU-hours a month · 1.86 GiB")
        looks_right(page)
        page.get_by_role("link", name="Audit log").click()
        changes = page.get_by_label("Changes").locator("tbody tr")
        expect(changes).to_have_count(2)
        expect(changes.first).to_contain_text("project updated")
        looks_right(page)
        page.get_by_label("Of what").fill("1970-01-01")
        expect(changes).to_have_count(1)
        expect(changes).to_contain_text("prices updated")
