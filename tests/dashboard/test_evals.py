"""An eval in a browser: made and run by forms, paused and resumed, its runs side by side, its items."""

import httpx
import openai
import pytest
from playwright.sync_api import Browser, expect

from tests.fixtures.api import Api, jsonl, on_sqlite
from tests.fixtures.browser import PHONE, serious, tab
from tests.fixtures.evals import ended_run, new_eval

pytestmark = pytest.mark.timeout(900)


@on_sqlite
def test_an_eval_is_made_and_run_by_forms(browser: Browser, api: Api, client: openai.OpenAI):
    rows = [{"item": {"question": "2 + 2 = ?", "answer": "4"}}]
    client.files.create(file=("sums.jsonl", jsonl(rows)), purpose="evals")
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/evals")
        expect(page.locator(".empty .btn")).to_be_visible()
        assert serious(page) == []
        page.get_by_role("link", name="New eval").first.click()
        page.get_by_label("Name").fill("Small sums")
        page.get_by_label("Schema of an item").fill("{}")
        expect(page.locator(".note.tone-ok")).to_be_visible()
        assert serious(page) == []
        page.get_by_role("button", name="Create eval").click()
        expect(page.get_by_role("heading", name="New run")).to_be_visible()
        messages = page.get_by_label("Messages")
        messages.fill('{"type": "item_reference", "item_reference": "item.chat"}')
        page.get_by_role("button", name="Start run").click()
        expect(page.locator(".form-end")).to_contain_text(
            "Row 1: the template variable item.chat has no value"
        )
        messages.fill('{"type": "template", "template": [{"role": "user", "content": "{{item.question}}"}]}')
        page.get_by_label("Name").fill("By hand")
        page.get_by_role("button", name="Start run").click()
        expect(page.get_by_role("heading", name="By hand")).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause")).to_be_visible()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the run").click()
        expect(page.locator(".status.pill")).to_have_text("Canceled")
        assert serious(page) == []
    (made,) = client.evals.list().data
    (run,) = client.evals.runs.list(made.id).data
    assert (made.name, run.name, run.status, run.model) == ("Small sums", "By hand", "canceled", api.model)


@on_sqlite
def test_runs_stand_side_by_side_with_their_items(browser: Browser, api: Api, client: openai.OpenAI):
    eval_id = new_eval(client, name="Sums")
    half = {f"item {number}": number % 2 == 0 for number in range(40)}
    first = ended_run(client, eval_id, half, "first")
    ended_run(client, eval_id, dict.fromkeys(half, True), "second")
    with tab(browser) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/evals/{eval_id}")
        expect(page.locator(".verdict .headline")).to_have_text("1 of 1 differ from first")
        table = page.get_by_role("region", name="Runs compared").locator("tbody tr")
        expect(table.nth(1)).to_contain_text("+0.500")
        assert serious(page) == []
        page.get_by_label("Compare second").uncheck()
        expect(page.locator(".verdict .headline")).to_have_text("Choose two runs or more to compare them")
        page.get_by_role("link", name="first").click()
        items = page.locator(".eval-item")
        expect(items).to_have_count(40)
        page.get_by_role("button", name="Failed").click()
        expect(items).to_have_count(20)
        expect(items.first).to_contain_text("Item 2")
        page.get_by_role("button", name="Not graded").click()
        expect(page.get_by_text("No such item.")).to_be_visible()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete the run").click()
        expect(page.get_by_role("heading", name="Sums")).to_be_visible()
    assert httpx.get(f"{api.url}/v1/evals/{eval_id}/runs/{first}").status_code == 404
    with tab(browser, viewport=PHONE) as opened:
        opened.page.goto(f"{api.url}/#/evals/{eval_id}")
        expect(opened.page.get_by_role("heading", name="Side by side")).to_be_visible()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert opened.page.evaluate(wide) == 0
        wide = "(nav => nav.scrollWidth - nav.clientWidth)(document.querySelector('.nav'))"
        assert opened.page.evaluate(wide) == 0, "every page is in sight"
