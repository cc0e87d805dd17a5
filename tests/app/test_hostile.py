"""Input that was made to do harm: refused at once, with what would be accepted, and nothing left behind."""

import json
import resource
import time
from typing import Any

import httpx
import openai
import pytest

from tests.fixtures.api import GRADER, Api, create_job, on_sqlite, sums

RL = "method.reinforcement"
#: The most that a refusal may take, on a busy machine.
SECONDS = 3.0
PROMPT = b'{"messages": [{"role": "user", "content": "hi"}]'


def row(extra: bytes) -> bytes:
    return PROMPT + b', "x": ' + extra + b"}\n"


#: (a file, what its refusal says)
FILES: list[tuple[bytes, str]] = [
    (row(b"1e999999"), "the number 1e999999 is too large"),
    (row(b"-1e999999"), "the number -1e999999 is too large"),
    (row(b"1" * 10_000), "Exceeds the limit (4300 digits)"),
    (row(b"Infinity"), "Infinity, which is not valid JSON; use null"),
    (row(b'{"a": ' * 100_000 + b"1" + b"}" * 100_000), "nested more than 64 levels deep"),
    (row(b'{"a": ' * 100_000), "nested more than 64 levels deep"),
    (row(b'{"a\\ud800": 1}'), "an unpaired surrogate, \\ud800"),
    (row(b'"\\ude00\\ud83d"'), "an unpaired surrogate"),
    (row(b'"\x00"'), "malformed JSON"),
    (b"\x00" * 1000, "malformed JSON"),
    (PROMPT.decode().encode("utf-16"), "not valid UTF-8"),
    (row(b'"\xc0\xaf"'), "not valid UTF-8: byte 0xc0"),
    (row(b'"\xed\xa0\x80"'), "not valid UTF-8: byte 0xed"),
]


@on_sqlite
def test_files(client: openai.OpenAI, api: Api):
    for content, says in FILES:
        began = time.monotonic()
        with pytest.raises(openai.BadRequestError) as caught:
            api.upload(client, content)
        assert says in caught.value.message, content[:80]
        assert "Line 1" in caught.value.message
        assert time.monotonic() - began < SECONDS, content[:80]
    assert not any(path.is_file() for path in (api.folder / "files").rglob("*"))


@on_sqlite
def test_a_line_of_100_mb_is_refused_in_little_memory(client: openai.OpenAI, api: Api):
    content = PROMPT + b', "x": "' + b"a" * (100 << 20) + b'"}\n'
    client.models.list()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()

    def pieces():
        head = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        yield head + b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{api.url}/v1/files", content=pieces(), headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "Line 1 is longer than the limit of 16777216 bytes" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 100 << 20, f"memory grew by {grown >> 20} MiB"


NAMES = [
    ("../../../etc/passwd", "passwd"),
    ("/etc/passwd", "passwd"),
    ("..\\..\\windows\\system.ini", "system.ini"),
    ("..", "upload.jsonl"),
    ("a\r\nset-cookie: x=1", None),
    ('a"; filename="b.exe', None),
    ("\u202egpj.exe", "gpj.exe"),
    ("a" * 1000, "a" * 255),
    ("\N{PILE OF POO}.jsonl", "\N{PILE OF POO}.jsonl"),
]


@on_sqlite
def test_names_of_files_are_names_and_no_paths(client: openai.OpenAI, api: Api):
    for name, expected in NAMES:
        file = client.files.create(file=(name, PROMPT + b"}\n"), purpose="fine-tune")
        assert expected is None or file.filename == expected, name
        assert "/" not in file.filename
        assert "\\" not in file.filename
        assert len(file.filename) <= 512
        answer = httpx.get(f"{api.url}/v1/files/{file.id}/content")
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert answer.headers["content-disposition"].isascii()
    stored = [path for path in (api.folder / "files").rglob("*") if path.is_file()]
    assert len(stored) == len(NAMES), "every file lies in the storage's own folder"


#: Templates that a template engine would have run.
TEMPLATES = [
    "{{ item.__class__.__mro__ }}",
    "{{ sample.output_text.__class__ }}",
    "{{ ''.__class__ }}",
    "{{ 7 * 7 }}",
    "{{ item['answer'] }}",
    "{{ config }}",
    "{{ sample.__init__.__globals__ }}",
    "{{ item.answer | upper }}",
    "{{ self }}",
    "{{",
]


@on_sqlite
def test_templates_read_fields_and_nothing_else(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    for template in TEMPLATES:
        with pytest.raises(openai.BadRequestError) as caught:
            create_job(client, api, file, reinforcement={"grader": GRADER | {"reference": template}})
        says = caught.value.message
        assert "item.FIELD" in says or "The file has: item.answer" in says, (template, says)
    # What looks like code to others is text here, and what a field says is not read again.
    for text in ("{% for x in y %}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "%(x)s", "{0.__class__}"):
        assert graded(client, {"reference": text}, text) == 1.0
        assert graded(client, {"reference": "{{item.a}}"}, text, a=text) == 1.0
    for text in ("{{sample.output_text}}", "{{item.b}}"):
        assert graded(client, {"reference": "{{item.a}}"}, text, a=text, b="secret") == 1.0


def graded(client: openai.OpenAI, change: dict[str, Any], response: str, **item: str) -> float:
    grader: Any = GRADER | change
    return client.fine_tuning.alpha.graders.run(grader=grader, item=item, model_sample=response).reward


#: Texts at which patterns that go back and try again take for ever, and graders that look for patterns.
BOMBS = ["a" * 900_000 + "!", "```json\n" * 100_000, "<answer>" * 100_000, "1," * 400_000, "{{" * 400_000]
READERS: list[dict[str, Any]] = [
    {"operation": "like", "reference": "(a+)+$"},
    {"operation": "ilike", "reference": "^(([a-z])+.)+[A-Z]([a-z])+$"},
]


@on_sqlite
def test_no_text_keeps_a_grader_busy(client: openai.OpenAI):
    """Nothing that a user gives is run as a pattern; and our own patterns go through a text once."""
    from trainer.graders.extraction import extract_answer
    from trainer.graders.templates import template_problem, variables

    for bomb in BOMBS:
        began = time.monotonic()
        for change in READERS:
            assert graded(client, change, bomb) == 0.0
        for kind in ("text", "last_number", "last_line", "answer_tag"):
            extract_answer(bomb, kind)
        variables(bomb)
        template_problem(bomb)
        assert time.monotonic() - began < SECONDS, bomb[:20]


#: (where, a value that is no use, part of the message)
ABSURD: list[tuple[str, Any, str]] = [
    ("rollout.prompts_per_step", 10**300, "less than or equal to 1000000"),
    ("rollout.samples_per_prompt", -2, "greater than or equal to 2"),
    ("rollout.max_response_tokens", 10**18, "less than or equal to 10000000"),
    ("rollout.temperature", 1e308, "less than or equal to 100"),
    ("rollout.temperature", "inf", "valid number"),
    ("rollout.temperature", "nan", "valid number"),
    ("rollout.temperature", True, "valid number"),
    ("rollout.prompts_per_step", "8", "valid integer"),
    ("optimizer.learning_rate", 1e308, "less than or equal to 100"),
    ("optimizer.learning_rate", -1e-6, "greater than 0"),
    ("optimizer.epsilon", 5e-324, ""),
    ("optimizer.updates_per_batch", 2**63, "less than or equal to 10000"),
    ("evaluation.max_items", 2**31, "less than or equal to 10000000"),
    ("evaluation.top_k", 2**40, "less than 2147483648"),
    ("diagnostics.interval", 2**31, "less than 2147483648"),
    ("checkpoint.interval", -1, "greater than or equal to 0"),
    ("budget.steps", 10**9, "less than or equal to 10000000"),
    ("budget.wall_clock_hours", 1e308, "less than or equal to 1000000"),
    ("budget.entropy_floor", "NaN", "valid number"),
    ("lora.rank", 10**9, "less than or equal to 65536"),
    ("lora.alpha", -0.0, "greater than 0"),
    ("hyperparameters.learning_rate_multiplier", 1e300, "less than or equal to 1000000"),
    ("hyperparameters.n_epochs", 10**30, "less than or equal to 1000000"),
    ("algorithm.eta", 1e308, "less than or equal to 1000000"),
    ("algorithm.eta_normal", "-inf", "valid number"),
    ("algorithm.kappa", 0, "greater than 0"),
    ("algorithm.freeze_step", 10**30, "less than 2147483648"),
]


@on_sqlite
def test_absurd_numbers(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    url = f"{api.url}/v1/fine_tuning/jobs"
    for place, value, says in ABSURD:
        block, field = place.split(".")
        part = {field: value} | ({"type": "policy_split"} if block == "algorithm" else {})
        method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, block: part}}
        body = {"model": api.model, "training_file": file, "method": method}
        began = time.monotonic()
        answer = httpx.post(url, json=body)
        assert answer.status_code == (400 if says else 200), (place, value, answer.text)
        if says:
            error = answer.json()["error"]
            assert error["param"] == f"{RL}.{place}", (place, error)
            assert says in error["message"], (place, error)
        assert time.monotonic() - began < SECONDS
    for number in (b"NaN", b"1e999999", b"-Infinity", b"9" * 10_000):
        text = json.dumps({"model": api.model, "training_file": file, "seed": "SEED"}).encode()
        content = text.replace(b'"SEED"', number)
        answer = httpx.post(url, content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@on_sqlite
def test_suffixes_and_models_are_no_paths(client: openai.OpenAI, api: Api):
    file = api.upload(client, sums())
    for suffix in ("../x", "a/b", "a:b", "a b", "a\n", "\x00", "\u202ex", "a" * 65, "{{x}}"):
        with pytest.raises(openai.BadRequestError) as caught:
            create_job(client, api, file, suffix=suffix)
        assert caught.value.param in ("suffix", None), suffix
    for model in ("../tiny", "/etc", "tiny/../tiny", "models/tiny", "tiny\x00", ".", "..", "~", "tiny/"):
        with pytest.raises(openai.BadRequestError):
            create_job(client, api, file, model=model)
    assert client.fine_tuning.jobs.list().data == []
