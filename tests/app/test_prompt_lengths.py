"""How long a file's prompts are in a model's tokens."""

import json
import shutil
from pathlib import Path

import httpx
import openai
import pytest
from transformers import AutoTokenizer

from app.core.db import write_session
from app.core.tables import DEFAULT_PROJECT
from app.files.service import create_result_file
from app.files.storage import store
from tests.fixtures.api import Api, on_sqlite

PROMPTS = ["Wie geht es?", "What is 2 + 2?", "", "a " * 300, "∑ 🙂 naïve"]


@pytest.fixture
def with_tokenizer(api: Api, tiny_model: Path) -> Api:
    """The API's base model has a tokenizer, which cuts off and fills up where it is not told otherwise."""
    tokenizer = json.loads((tiny_model / "tokenizer.json").read_bytes())
    tokenizer["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (api.folder / "models/tiny/tokenizer.json").write_text(json.dumps(tokenizer))
    return api


def ask(api: Api, file: str, **query: str) -> httpx.Response:
    return httpx.get(f"{api.url}/v1/files/{file}/prompt_lengths", params=query)


def rows(prompts: list[str]) -> list[dict]:
    """The text in parts, and behind a message of the system's."""
    parts = ([{"type": "text", "text": text[:2]}, {"type": "text", "text": text[2:]}] for text in prompts)
    return [
        {"messages": [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": content}]}
        for content in parts
    ]


@on_sqlite
def test_they_are_those_of_the_models_own_tokenizer(
    client: openai.OpenAI, with_tokenizer: Api, tiny_model: Path
) -> None:
    file = with_tokenizer.upload(client, rows(PROMPTS))
    own = AutoTokenizer.from_pretrained(tiny_model)
    lengths = sorted(len(own(f"Be brief. {text}", add_special_tokens=False)["input_ids"]) for text in PROMPTS)
    assert ask(with_tokenizer, file, model="tiny").raise_for_status().json() == {
        "object": "file.prompt_lengths",
        "file_id": file,
        "model": "tiny",
        "rows": len(PROMPTS),
        "complete": True,
        "median": lengths[2],
        "ninety_percent": lengths[4],
        "longest": lengths[4],
    }


@on_sqlite
def test_of_a_long_file_the_beginning_is_read(
    client: openai.OpenAI, with_tokenizer: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_tokenizer.upload(client, rows(["short", "short", "a " * 500]))
    monkeypatch.setattr("app.jobs.prompt_lengths._BYTES", 200)
    told = ask(with_tokenizer, file, model="tiny").json()
    assert (told["rows"], told["complete"]) == (2, False)


@on_sqlite
def test_what_cannot_be_counted_is_said(client: openai.OpenAI, with_tokenizer: Api, tiny_model: Path) -> None:
    file = with_tokenizer.upload(client, rows(PROMPTS))
    for model, words in (("nobody", "does not exist"), ("", "")):
        wrong = ask(with_tokenizer, file, model=model)
        assert wrong.status_code == 400 and words in wrong.json()["error"]["message"]
        assert wrong.json()["error"]["param"] == "model"
    assert ask(with_tokenizer, file).status_code == 400
    assert ask(with_tokenizer, "file-nobody", model="tiny").status_code == 404
    with write_session() as session:
        stored = store(b"step\n")
        written = create_result_file(session, project_id=DEFAULT_PROJECT, filename="r.csv", stored=stored).id
    wrong = ask(with_tokenizer, written, model="tiny")
    assert wrong.status_code == 400 and "has no prompts" in wrong.json()["error"]["message"]
    for text in (None, "{}", "\x00", '{"version": "1.0", "model": {"type": "BPE", "vocab": 7}}'):
        place = with_tokenizer.folder / "models/tiny/tokenizer.json"
        place.unlink(missing_ok=True)
        if text is not None:
            place.write_text(text)
        wrong = ask(with_tokenizer, file, model="tiny")
        assert wrong.status_code == 400, wrong.text
        assert "'tiny' has no tokenizer.json that can be read" in wrong.json()["error"]["message"]
    shutil.copy(tiny_model / "tokenizer.json", place)
    assert ask(with_tokenizer, file, model="tiny").status_code == 200
