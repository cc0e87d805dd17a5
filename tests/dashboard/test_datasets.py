"""A training file on its way in: what is wrong by line, what is in it, and who uses it."""

import json
import re
import shutil
from pathlib import Path

import httpx
import openai
import pytest
from playwright.sync_api import Browser, FilePayload, expect

from tests.fixtures.api import Api, create_job, on_sqlite
from tests.fixtures.browser import PHONE, serious, tab

pytestmark = pytest.mark.timeout(900)


def row(question: str, **fields: object) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}], **fields})


def payload(*lines: str) -> FilePayload:
    return {"name": "sums.jsonl", "mimeType": "application/jsonl", "buffer": "\n".join(lines).encode()}


@on_sqlite
def test_a_file_is_read_before_it_is_uploaded_and_shown_after(
    browser: Browser, api: Api, client: openai.OpenAI, tiny_model: Path
):
    shutil.copy(tiny_model / "tokenizer.json", api.folder / "models/tiny")
    # The form that it ends at asks of a job without a grader, which is refused.
    with tab(browser, refusals=True) as opened:
        page = opened.page
        page.goto(f"{api.url}/#/datasets")
        expect(page.get_by_role("heading", name="No files yet")).to_be_visible()
        chosen = page.get_by_label("File to upload")
        chosen.set_input_files(payload(row("1 + 1?", answer="2"), "", "{", "[]", '{"messages": []}'))
        said = page.get_by_role("alert")
        for text in ("Line 3 is not JSON", "Line 4 is not a JSON object", "Line 5 has no 'messages'"):
            expect(said).to_contain_text(text)
        assert client.files.list().data == []
        chosen.set_input_files(
            payload(
                row("1 + 1?", answer="2"),
                row("What is 10 + 1?", answer="11", hint="tens"),
                row("1 + 1?", answer="2"),
            )
        )
        expect(page.get_by_role("heading", name="sums.jsonl")).to_be_visible()
        facts = page.get_by_label("Facts")
        for fact in (
            "Rows3",
            "Prompt, median6 characters",
            "Prompt, longest15 characters",
            "Repeated prompts1",
        ):
            expect(facts).to_contain_text(fact)
        (file,) = client.files.list().data
        tokens = httpx.get(f"{api.url}/v1/files/{file.id}/prompt_lengths", params={"model": "tiny"}).json()
        expect(page.get_by_label("Prompts in tokens")).to_contain_text(
            f"Prompt, longest{tokens['longest']} tok"
        )
        expect(page.get_by_text("line 3 is as line 1")).to_be_visible()
        fields = page.get_by_label("Fields").locator("tbody tr")
        expect(fields.filter(has_text="item.answer").locator("td").nth(1)).to_have_text("3")
        expect(fields.filter(has_text="item.hint").locator("td").nth(1)).to_have_text("1")
        assert serious(page) == []
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        expect(page.get_by_text("No job yet")).to_be_visible()
        create_job(client, api, file.id, suffix="on-sums")
        page.reload()
        expect(page.get_by_label("Used by").get_by_role("link", name="on-sums")).to_be_visible()
        page.get_by_role("link", name="Train on it").click()
        expect(page.get_by_label("Training file")).to_have_value(file.id)
        expect(page).to_have_url(re.compile(f"file={file.id}"))
