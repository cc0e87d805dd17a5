"""A run of an eval asks a model of this service as a chat request would, in either mode."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from app.core.settings import get_settings
from tests.fixtures.api import forget
from tests.fixtures.engines import Deployment
from tests.fixtures.evals import asked, new_eval, new_run
from tests.inference.scripted_engine import ECHO
from worker.evals import running
from worker.evals.running import run_next
from worker.shutdown import Shutdown

HELLO = {"question": "Hello", "answer": "x"}
#: The engine says what it is told to.
RIGHT, WRONG = ({"question": f"{ECHO}{said}", "answer": "4"} for said in "45")


@pytest.fixture
def here(scripted: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """The deployment, whose runs this process may take as a worker."""
    monkeypatch.setenv("POLICYSPLIT_DATA_DIR", str(scripted.folder))
    monkeypatch.setenv("DATABASE_URL", scripted.database_url)
    monkeypatch.setattr(running, "FLAG_SECONDS", 0.02)
    forget()
    yield scripted
    forget()


def test_both_modes_answer_as_in_chat_and_are_compared(here: Deployment):
    here.start_inference()
    model, client = here.add_finished(), here.client()
    eval_id = new_eval(client)
    drawn = {"max_completion_tokens": 3, "seed": 7}
    items = [HELLO, RIGHT, WRONG]
    high = f"{model}:high-entropy"
    wanted = {"normal": asked(model, *items, sampling_params=drawn)}
    wanted["high-entropy"] = asked(high, *items, sampling_params=drawn)
    by_field = asked(model, *items, mode="high-entropy", sampling_params=drawn)
    ids = {name: new_run(client, eval_id, source) for name, source in wanted.items()}
    ids["by field"] = new_run(client, eval_id, by_field)
    texts: dict[str, list[str | None]] = {}
    for name, run_id in ids.items():
        assert run_next("me", Shutdown()) == run_id
        run: Any = client.evals.runs.retrieve(run_id, eval_id=eval_id)
        assert (run.status, run.mode) == ("completed", "normal" if name == "normal" else "high-entropy")
        assert run.checkpoint == f"{model}:ckpt-step-10"
        assert (run.result_counts.passed, run.result_counts.failed) == (1, 2)
        assert run.per_model_usage[0].invocation_count == 3
        found = client.evals.runs.output_items.list(run_id, eval_id=eval_id).data
        texts[name] = [one.sample.output[0].content for one in found]
        assert [one.sample.input[0].content for one in found] == [one["question"] for one in items]
    for name, named in (("normal", model), ("high-entropy", high)):
        chat: Any = {"model": named, "messages": [{"role": "user", "content": "Hello"}], "seed": 7}
        answer = client.chat.completions.create(**chat, max_completion_tokens=3)
        assert answer.choices[0].message.content == texts[name][0]
    assert texts["by field"] == texts["high-entropy"] != texts["normal"]
    told: Any = client.get(f"/evals/{eval_id}/compare", cast_to=object)
    assert [(one["mode"], one["mean"]) for one in told["runs"]] == [
        *(("normal", 1 / 3), ("high-entropy", 1 / 3), ("high-entropy", 1 / 3))
    ]
    assert [one["delta"] for one in told["pairs"]] == [0, 0]


def test_the_responses_api_says_the_same_in_other_words(here: Deployment):
    here.start_inference()
    client = here.client()
    eval_id = new_eval(client)
    source = asked("tiny", RIGHT, WRONG) | {
        "type": "responses",
        "sampling_params": {"text": {"format": {"type": "text"}}},
    }
    run_id = new_run(client, eval_id, source)
    run_next("me", Shutdown())
    assert client.evals.runs.retrieve(run_id, eval_id=eval_id).result_counts.passed == 1


def test_a_model_that_goes_ends_the_run_and_one_that_is_asked_stays(here: Deployment):
    model, client = here.add_finished(), here.client()
    eval_id = new_eval(client)
    run_id = new_run(client, eval_id, asked(model, RIGHT))
    refused = client.with_options(max_retries=0).models.with_raw_response
    with pytest.raises(
        Exception, match=f"The eval run '{run_id}', which has not finished, queries this model"
    ):
        refused.delete(model)
    here.start_inference()
    shutil.rmtree(here.checkpoint_folder(model))
    run_next("me", Shutdown())
    run: Any = client.evals.runs.retrieve(run_id, eval_id=eval_id)
    assert (run.status, run.error.code) == ("failed", "model_not_found"), run


def test_a_run_waits_for_an_inference_worker_as_long_as_a_start_may_take(
    here: Deployment, monkeypatch: pytest.MonkeyPatch
):
    client = here.client()
    eval_id = new_eval(client)
    run_id = new_run(client, eval_id, asked("tiny", RIGHT))
    monkeypatch.setattr(get_settings(), "engine_start_seconds", 0.0)
    run_next("me", Shutdown())
    run: Any = client.evals.runs.retrieve(run_id, eval_id=eval_id)
    assert (run.status, run.error.code) == ("failed", "no_inference_worker")
