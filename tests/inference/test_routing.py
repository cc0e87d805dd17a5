"""Several inference workers: who answers, and what becomes of one that dies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import APIError

from app.core.settings import Settings
from tests.fixtures.engines import Deployment, until

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def test_requests_go_where_the_model_is_loaded_then_where_least_is_done_and_never_to_the_dead(
    scripted: Deployment,
):
    first, second = scripted.add_finished(seed=1), scripted.add_finished(seed=2)
    processes = [scripted.start_inference(), scripted.start_inference()]
    client = scripted.client()

    def ask(model: str, **options: Any) -> Any:
        return client.chat.completions.create(
            model=model, messages=HELLO, **{"max_tokens": 4, "seed": 1, **options}
        )

    def places() -> dict[str, list[Any]]:
        """By worker's URL, what it has loaded."""
        workers = scripted.workers()
        return {worker.url: scripted.engines_of(worker.url) for worker in workers}

    def where(model: str) -> list[str]:
        folder = str(scripted.checkpoint_folder(model))
        return [url for url, engines in places().items() if any(e["folder"] == folder for e in engines)]

    for _ in range(3):
        ask(first)
        until(lambda: sum(len(worker.loaded) for worker in scripted.workers()) == 1)
    (home,) = where(first)
    # The other worker has less to do.
    stream = iter(ask(first, stream=True, max_tokens=400, temperature=0))
    next(stream)
    ask(second)
    assert where(second) == [url for url in places() if url != home]
    for _ in stream:
        pass
    until(lambda: all(worker.loaded for worker in scripted.workers()))
    # The one with the first model dies without a word; what it had goes to the other.
    rows = {row.url: row for row in scripted.workers()}
    dead = next(p for p in processes if f"-{p.pid}-" in rows[home].id)
    dead.kill()
    dead.wait()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(first), range(4)))
    assert {answer.mode for answer in answers} == {"normal"}
    (left,) = {row.url for row in scripted.workers()} - {home}
    engines = scripted.engines_of(left)
    assert {engine["folder"] for engine in engines} == {
        str(scripted.checkpoint_folder(model)) for model in (first, second)
    }


def test_a_model_that_many_ask_for_is_loaded_on_a_second_host_and_a_lost_host_loses_no_answer(
    scripted: Deployment,
):
    """Of what the lost host was asked, the answer that it had begun fails; the others come from elsewhere."""
    model = scripted.add_finished(seed=3)
    folder = str(scripted.checkpoint_folder(model))
    processes = [scripted.start_inference(), scripted.start_inference()]
    client = scripted.client()

    def ask(seed: int, **options: Any) -> Any:
        return client.chat.completions.create(
            model=model, messages=HELLO, seed=seed, **{"max_tokens": 4, **options}
        )

    def having() -> list[str]:
        urls = [row.url for row in scripted.workers()]
        return [url for url in urls if any(e["folder"] == folder for e in scripted.engines_of(url))]

    ask(0)
    until(lambda: sum(len(row.loaded) for row in scripted.workers()) == 1)
    (home,) = having()
    # The engine answers one request at a time: this one keeps it busy, and the others wait.
    told = iter(ask(0, stream=True, max_tokens=100_000))
    next(told)
    count = Settings().inference_spread_requests
    with ThreadPoolExecutor(count) as pool:
        waiting = [pool.submit(ask, seed) for seed in range(1, count + 1)]
        until(lambda: len(having()) == 2)
        row = next(row for row in scripted.workers() if row.url == home)
        dead = next(process for process in processes if f"-{process.pid}-" in row.id)
        dead.kill()
        dead.wait()
        answers = [one.result().choices[0].message.content for one in waiting]
    with pytest.raises((APIError, httpx.RemoteProtocolError)):
        for _ in told:
            pass
    assert answers == [ask(seed).choices[0].message.content for seed in range(1, count + 1)]
    assert len(set(answers)) == count
