"""Creative answers judged: the judge sees no names, prompts are the clusters, lengths are matched."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.experiments.judging import creative_report, judge_blind
from tests.fixtures.http_server import Reply, Request, Server, chat
from tests.fixtures.service import run_cli
from trainer.graders.build import build_grader
from trainer.graders.creative_writing import CRITERIA
from trainer.graders.grade import Grade, Grader, Sample
from trainer.graders.spec import CreativeWritingGrader

PROMPTS = [
    f"Write about {what}" for what in ("the sea", "a lamp", "rust", "snow", "a key", "bread", "fog", "tin")
]


def texts_of(word: str) -> list[list[str]]:
    return [[f"{word} {n} {prompt} and more" for n in range(2)] for prompt in range(len(PROMPTS))]


@pytest.fixture
def judge(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Grader]:
    """A judge at a real endpoint, who likes the word ``wild`` and cannot read the word ``blank``."""

    def answer(request: Request) -> Reply:
        text = request.json["messages"][1]["content"]
        if "blank" in text:
            return chat("no score")
        return chat(dict.fromkeys(CRITERIA, 14 if "wild" in text else 9))

    server.answer = answer
    monkeypatch.setenv("POLICYSPLIT_GRADER_ALLOWED_HOSTS", json.dumps([server.netloc]))
    spec = CreativeWritingGrader(model="judge", base_url=f"{server.url}/v1", concurrency=1)
    grader = build_grader(spec)
    yield grader
    grader.close()


def test_the_judge_sees_neither_names_nor_an_order(judge: Grader, server: Server):
    texts = {"secret-a": texts_of("wild"), "secret-b": texts_of("calm")}
    done: list[int] = []
    judged = judge_blind(judge, PROMPTS, texts, seed=1, at_once=10, on_progress=done.append)
    assert done == [10, 20, 30, 32]
    assert len(judged) == len(server.requests) == 32
    said = [request.body.decode() for request in server.requests]
    assert not any("secret" in body for body in said)
    order = ["wild" in body for body in said]
    assert order != sorted(order) and order != sorted(order, reverse=True)
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > 8  # neither one after the other nor prompt by prompt
    assert judge_blind(judge, PROMPTS, texts, seed=1) == judged


def test_prompts_are_the_clusters(judge: Grader):
    texts = {"b": texts_of("calm"), "a": texts_of("wild")}
    texts["b"][0] = ["blank", "blank"]
    report: Any = creative_report(judge_blind(judge, PROMPTS, texts), len(PROMPTS), "a")
    first, second = report["contestants"]
    assert (first["name"], first["scores"]["imagery"], second["scores"]["imagery"]) == ("a", 14, 9)
    assert (second["texts"], second["not_judged"]) == (16, 2)
    rows = {row["criterion"]: row for row in report["comparisons"]}
    assert set(rows) == {*CRITERIA, "creative_writing"}
    # Seven prompts have texts of both: 2^7 sign patterns, two of which are as extreme.
    assert rows["imagery"]["prompts"] == 7 and rows["imagery"]["delta"] == 5
    assert rows["imagery"]["p"] == pytest.approx(2 / 2**7)
    assert rows["imagery"]["holm_p"] == pytest.approx(6 * 2 / 2**7)


class Indifferent(Grader):
    """Gives every text the same score."""

    def grade_many(self, samples, on_progress=lambda: None):
        return [Grade(0.5, {"imagery": 10.0}) for _ in samples]

    def close(self) -> None:
        """Nothing was started."""


def test_a_longer_text_is_not_more_diverse():
    long = [["a b a b a b a b c d", "a b a b a b a b e f"]]
    short = [["a b c", "a b d"]]
    report: Any = creative_report(judge_blind(Indifferent(), ["p"], {"x": long, "y": short}), 1, "x")
    measured = report["diversity_at_matched_length"]
    # Of both, the first three words: a b a twice, against a b c and a b d.
    assert measured["x"]["distinct1"] == pytest.approx(2 / 6)
    assert measured["y"]["distinct1"] == pytest.approx(4 / 6)
    assert report["comparisons"][0]["p"] == 1.0
    assert Sample({"prompt": "p"}, "").item == {"prompt": "p"}


def test_from_a_terminal_with_one_server_that_writes_and_judges(server: Server, tmp_path: Path):
    def answer(request: Request) -> Reply:
        body = request.json
        if "You judge" in body["messages"][0]["content"]:
            return chat(dict.fromkeys(CRITERIA, 14 if "wild" in body["messages"][1]["content"] else 9))
        reply = chat(f"{body['model']} words on it")
        return Reply(reply.body | {"choices": reply.body["choices"] * body["n"], "model": "m", "created": 1})

    server.answer = answer
    file = tmp_path / "judging.json"
    wanted = {
        "method": "new",
        "contestants": [
            {"name": "new", "model": "wild", "mode": "high-entropy"},
            {"name": "old", "model": "calm"},
        ],
        "prompts": PROMPTS,
        "samples": 2,
        "judge": {"model": "judge", "base_url": f"{server.url}/v1", "sampling_params": {"temperature": 0}},
    }
    file.write_text(json.dumps(wanted))
    output = tmp_path / "out.json"
    command = ("experiments", "judge", str(file), "--output", str(output), "--base-url", f"{server.url}/v1")
    done = run_cli(*command, POLICYSPLIT_GRADER_ALLOWED_HOSTS=json.dumps([server.netloc]))
    assert done.returncode == 0, done.stderr
    assert "+5.00" in done.stdout and "not a person's" in done.stdout
    written = json.loads(output.read_text())
    assert len(written["texts"]) == 32 and written["report"]["prompts"] == 8
    modes = [r.json.get("mode") for r in server.requests if r.json.get("model") == "wild"]
    assert modes == ["high-entropy"] * 8

    asked = len(server.requests)
    refused = run_cli(*command)
    assert refused.returncode == 1 and "POLICYSPLIT_GRADER_ALLOWED_HOSTS" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(server.requests) == asked, "answers were paid for that nobody can judge"

    file.write_text(json.dumps(wanted | {"method": "nobody"}))
    refused = run_cli(*command)
    assert refused.returncode != 0 and "method is 'nobody'" in refused.stderr
