"""Several inference workers: who answers, and what becomes of one that dies."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
