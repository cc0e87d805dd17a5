"""A job is asked while it trains: its latest checkpoint, and no request fails when there is a newer one."""

import threading
from typing import Any

import openai
import pytest

from app.checkpoints.naming import model_id
from app.checkpoints.repository import remove_checkpoint
from app.core.db import write_session
from app.core.tables import Job
from tests.fixtures.engines import Deployment, until

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def test_requests_go_over_to_a_new_checkpoint_without_one_that_fails(scripted: Deployment):
    job = scripted.add_job("running")
    name = model_id(model="tiny", organization="policysplit", suffix=None, job_id=job.id)
    scripted.start_inference()
    client = scripted.client()

    def ask(model: str) -> Any:
        return client.chat.completions.create(model=model, messages=HELLO, max_tokens=6, seed=1)

    with pytest.raises(openai.NotFoundError, match="running"):
        ask(name)
    first = scripted.add_checkpoint(job, 4, seed=4)
    old = ask(name)
    assert old.checkpoint == first
    assert ask(f"{name}:high-entropy").mode == "high-entropy"

    answers: list[Any] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.wait(0.1):  # the engine that starts needs a share of the processor
            answers.append(ask(name))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        second = scripted.add_checkpoint(job, 8, seed=8)
        until(lambda: answers and answers[-1].checkpoint == second)
        # The old one goes, as retention removes it, and the job ends.
        with write_session(scripted.database) as session:
            remove_checkpoint(session, job.id, 4)
            row = session.get_one(Job, job.id)
            row.status, row.fine_tuned_model = "succeeded", name
        count = len(answers)
        until(lambda: len(answers) > count + 5)
    finally:
        done.set()
        asking.join()
    checkpoints = [answer.checkpoint for answer in answers]
    assert checkpoints == sorted(checkpoints), "never back to the old one"
    assert checkpoints.count(first) > 3, "which answered while the new one was being loaded"
    assert len({answer.choices[0].message.content for answer in answers}) == 2


def test_a_paused_job_is_a_model_and_a_failed_one_is_none(scripted: Deployment):
    client = scripted.client()
    for status, there in (("paused", True), ("queued", True), ("failed", False), ("cancelled", False)):
        job = scripted.add_job(status, finished_at=None if there else 1.0)
        scripted.add_checkpoint(job, 2)
        name = model_id(model="tiny", organization="policysplit", suffix=None, job_id=job.id)
        if there:
            assert client.models.retrieve(name).id == name
        else:
            with pytest.raises(openai.NotFoundError, match=status):
                client.models.retrieve(name)
