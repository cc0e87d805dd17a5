"""Files: what is accepted, what is refused and how, through the real SDK."""

import codecs
import json
from typing import Any

import httpx
import openai
import pytest

from app.files.jsonl import check_training_file
from tests.fixtures.api import Api, create_job, jsonl, on_sqlite, sums


def test_upload_list_retrieve_content_delete(client: openai.OpenAI, api: Api):
    content = jsonl(sums(3))
    file = client.files.create(file=("../sums.jsonl", content), purpose="fine-tune")
    assert (file.object, file.filename, file.bytes, file.status) == (
        "file",
        "sums.jsonl",
        len(content),
        "processed",
    )
    assert file.model_extra is not None
    assert file.model_extra["rows"] == 3

    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    assert [one.id for one in client.files.list()] == [file.id]

    assert client.files.delete(file.id).deleted
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*"))
    with pytest.raises(openai.NotFoundError, match=file.id):
        client.files.retrieve(file.id)


def test_pages_follow_each_other_in_both_orders(client: openai.OpenAI, api: Api):
    made = [api.upload(client, sums(1)) for _ in range(5)]
    assert [one.id for one in client.files.list(limit=2, order="asc")] == made
    assert [one.id for one in client.files.list(limit=2)] == made[::-1]
    assert [one.id for one in client.files.list(purpose="fine-tune-results")] == []
    with pytest.raises(openai.BadRequestError, match="'after'"):
        client.files.list(after="file-nope")


def test_a_file_has_pairs_of_its_uploader(client: openai.OpenAI, api: Api):
    file = client.files.create(
        file=("rows.jsonl", GOOD), purpose="fine-tune", extra_body={"metadata": {"team": "sums", "v": ""}}
    )
    assert file.model_extra is not None
    assert file.model_extra["metadata"] == {"team": "sums", "v": ""}
    assert client.files.list().data == [file]
    # As OpenAPI puts an object into a form.
    parts = {"metadata": (None, '{"team": "sums"}', "application/json"), "file": ("rows.jsonl", GOOD)}
    answer = httpx.post(f"{api.url}/v1/files", data={"purpose": "fine-tune"}, files=parts)
    assert (answer.status_code, answer.json()["metadata"]) == (200, {"team": "sums"})
    plain = client.files.retrieve(api.upload(client, sums()))
    assert plain.model_extra is not None and plain.model_extra["metadata"] is None


GOOD = b'{"messages": [{"role": "user", "content": "hi"}]}\n'


IMAGE = "Line 1: 'messages.0.content.0': a part of the type 'image_url', but models here read text only"
BAD_CONTENT = [
    (b"", "empty"),
    (b"\n \n", "empty"),
    (GOOD + b'{"messages": [}\n', "Line 2: malformed JSON"),
    (GOOD + b"\n[1]\n", "Line 3 is [1]; each line must be a JSON object"),
    (GOOD + b'{"prompt": "hi"}\n', "Line 2 has no 'messages'. Its keys are: prompt"),
    (b'{"messages": "hi"}\n', "Line 1: 'messages' is \"hi\""),
    (b'{"messages": []}\n', "at least one message"),
    (b'{"messages": ["hi"]}\n', "'messages.0' is \"hi\""),
    (b'{"messages": [{"role": "user"}]}\n', "'messages.0' has no 'content'"),
    (
        b'{"messages": [{"role": "robot", "content": "hi"}]}\n',
        "'messages.0.role' is \"robot\"; it must be one",
    ),
    (b'{"messages": [{"role": "user", "content": 5}]}\n', "'messages.0.content' is 5; it must be a string"),
    (b'{"messages": [{"role": "user", "content": "a", "x": 1}]}\n', "'messages.0.x' is unknown"),
    (b'{"messages": [{"role": "assistant", "content": "hi"}]}\n', "begins with the assistant's"),
    (GOOD[:-2] + b', "n": NaN}\n', "NaN"),
    (GOOD[:-2] + b', "n": -Infinity}\n', "-Infinity"),
    (GOOD[:-2] + b', "n": 1e999}\n', "1e999 is too large"),
    (GOOD[:-2] + b', "n": ' + b"9" * 5000 + b"}\n", "Line 1:"),
    (GOOD[:-2] + b', "n": "\\ud800"}\n', "surrogate"),
    (GOOD[:-2] + b', "n": "\\u0000"}\n', "U+0000"),
    (GOOD[:-2] + b', "n": 1, "n": 2}\n', "'n' appears twice"),
    (GOOD[:-2] + b', "n": ' + b"[" * 70 + b"]" * 70 + b"}\n", "nested more than 64"),
    (GOOD[:-2] + b', "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested more than 64"),
    (GOOD[:-2] + b', "n": "\xff"}\n', "not valid UTF-8"),
    (GOOD + b"\xef\xbb\xbf" + GOOD, "Line 2: it begins with a byte-order mark"),
    (
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}\n',
        IMAGE,
    ),
    (
        b'{"messages": [{"role": "function", "name": "f", "content": "1"}]}\n',
        "'function' is the older name of the role 'tool'",
    ),
    (GOOD[:-2] + b', "tools": [{"type": "retrieval"}]}\n', "Line 1: 'tools.0.type' is \"retrieval\""),
    (GOOD[:-2] + b', "tools": "search"}\n', "Line 1: 'tools' is \"search\""),
]

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
GOOD_CONTENT = [
    {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "name": None, "content": "hi"}]},
    {"messages": [{"role": "user", "name": "ann", "content": "hi"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
    },
]


@on_sqlite
def test_messages_as_hosted_services_take_them_are_accepted(client: openai.OpenAI):
    """And a byte-order mark in front of the file, which some guides demand."""
    content = "".join(json.dumps(row) + "\n" for row in GOOD_CONTENT).encode()
    for file in (content, codecs.BOM_UTF8 + content):
        assert client.files.create(file=("rows.jsonl", file), purpose="fine-tune").status == "processed"


@on_sqlite
def test_bad_content_is_refused_with_its_line(client: openai.OpenAI, api: Api):
    for content, says in BAD_CONTENT:
        with pytest.raises(openai.BadRequestError) as caught:
            api.upload(client, content)
        error: Any = caught.value.body
        assert says in error["message"]
        assert len(error["message"]) < 500
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            "file",
            "invalid_file",
        )
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*")), "nothing is left behind"


@on_sqlite
def test_limits_of_lines_and_files(client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch):
    from app.core.settings import get_settings

    monkeypatch.setattr(get_settings(), "max_line_bytes", 100)
    with pytest.raises(openai.BadRequestError, match="Line 2 is longer than the limit of 100 bytes"):
        api.upload(client, GOOD + GOOD[:-2] + b', "x": "' + b"a" * 100 + b'"}\n')
    monkeypatch.setattr(get_settings(), "max_upload_bytes", 1000)
    for size in (2000, 200_000, 20_000_000):
        with pytest.raises(
            openai.APIStatusError, match="larger than this server's limit of 1000 bytes"
        ) as caught:
            api.upload(client, b"a" * size)
        assert caught.value.status_code == 413


BAD_FORMS: list[tuple[dict[str, Any], str | None, str]] = [
    ({"files": {"file": ("a", GOOD)}}, "purpose", "Missing required parameter: 'purpose'"),
    ({"files": {"file": ("a", GOOD)}, "data": {"purpose": "batch"}}, "purpose", "should be 'fine-tune'"),
    ({"files": {"file": ("a", GOOD)}, "data": {"purpose": "fine-tune", "x": "1"}}, "x", "Unknown parameter"),
    *(
        ({"files": {"file": ("a", GOOD)}, "data": {"purpose": "fine-tune", **fields}}, param, says)
        for fields, param, says in (
            ({"expires_after[anchor]": "created_at"}, "expires_after.seconds", "Missing required"),
            (
                {"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"},
                "expires_after.anchor",
                "should be 'created_at'",
            ),
            (
                {"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
                "expires_after.seconds",
                "greater than or equal to 3600",
            ),
            ({"expires_after": "never"}, "expires_after", "valid dictionary"),
            ({"metadata": "a", "metadata[b]": "c"}, "metadata", "appears twice"),
            ({f"metadata[{n}]": "" for n in range(17)}, "metadata", "at most 16"),
            ({"metadata[a]": "b" * 513}, "metadata.a", "at most 512"),
            ({"x[a]": "b"}, "x", "Unknown parameter"),
        )
    ),
    (
        {"files": {"metadata": (None, "{", "application/json")}, "data": {"purpose": "fine-tune"}},
        "metadata",
        "malformed JSON",
    ),
    (
        {"data": {"purpose": "fine-tune"}, "files": {"purpose": (None, "fine-tune")}},
        "purpose",
        "appears twice",
    ),
    ({"files": {"data": ("a", GOOD)}, "data": {"purpose": "fine-tune"}}, "data", "named 'file'"),
    ({"files": {"x": (None, "1")}, "data": {"purpose": "fine-tune"}}, "x", "Unknown parameter"),
    ({"json": {"purpose": "fine-tune"}}, None, "multipart/form-data"),
    (
        {"content": b"--b\r\ncut", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        None,
        "valid multipart form",
    ),
]


@on_sqlite
def test_bad_forms(api: Api):
    for form, param, says in BAD_FORMS:
        answer = httpx.post(f"{api.url}/v1/files", **form)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert says in error["message"]
        assert error["param"] == param


def test_a_file_of_an_unfinished_job_stays(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    job = create_job(client, api, file)
    with pytest.raises(openai.ConflictError, match=job.id):
        client.files.delete(file)
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(file).deleted


def test_index_of_fields(tmp_path):
    rows = [
        {"answer": "1", "meta": {"level": 1, "note": None}, "sp ace": 1},
        {"answer": "2", "meta": {"level": 2}, "late": True},
        {"answer": None, "meta": 5, "late": True},
    ]
    path = tmp_path / "rows.jsonl"
    prompt = {"messages": [{"role": "user", "content": "hi"}]}
    path.write_text("\n".join(json.dumps(prompt | row) for row in rows))
    found = check_training_file(path, 10_000)
    assert found.count == 3
    assert found.fields == {
        "answer": {"count": 2, "first_missing": 3},
        "meta": {"count": 3, "first_missing": None},
        "meta.level": {"count": 2, "first_missing": 3},
        "late": {"count": 2, "first_missing": 1},
    }
