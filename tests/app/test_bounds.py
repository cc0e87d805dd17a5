"""One user cannot stop the others: each thing that may be asked has a bound, which the refusal names."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from app.core import http_protocol
from app.core.errors import TooManyRequests
from app.core.settings import get_settings
from app.core.shares import Shares
from app.core.strict_json import BadJson, parse
from app.keys.service import revoke_key
from app.main import create_app, served_app
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums, wait_until_up

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@on_sqlite
def test_stop_texts_are_short(api: Api):
    for stop, says in (
        ("x" * 65, "the longest has 65"),
        (["x" * 64] * 5, "in total they have 320"),
        (["x"] * 17, "up to 16 texts"),
    ):
        answer = httpx.post(f"{api.url}/v1/chat/completions", json=CHAT | {"stop": stop}, timeout=60)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "stop") and says in error["message"]
    answer = httpx.post(f"{api.url}/v1/chat/completions", json=CHAT | {"stop": ["x" * 64] * 4}, timeout=60)
    assert "stop" not in answer.text, "as long as it may be"


def test_documents_have_a_number_of_keys():
    with pytest.raises(BadJson, match="an object has 280000 keys; it may have 5000"):
        parse(json.dumps({f"k{n}": n for n in range(280_000)}).encode())
    with pytest.raises(BadJson, match="more than 50000 keys in total"):
        parse(json.dumps([{"a": 1}] * 60_000).encode())
    assert len(parse(json.dumps({f"k{n}": n for n in range(5000)}).encode())) == 5000


@on_sqlite
def test_unknown_keys_are_refused_without_holding_others_up(api: Api):
    body = json.dumps(CHAT | {f"key number {n}": n for n in range(280_000)}).encode()[: 4 << 20]
    assert len(body) > 3_800_000
    many = json.dumps(CHAT | {f"k{n}": n for n in range(4900)}).encode()
    for content, says in ((body, ""), (many, "Unknown parameter: 'k0'")):
        waits: list[float] = []
        with others_waiting(api.url, waits):
            headers = {"content-type": "application/json"}
            answer = httpx.post(
                f"{api.url}/v1/chat/completions", content=content, headers=headers, timeout=60
            )
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]
        assert len(answer.text) < 2000
        assert waits


@contextmanager
def others_waiting(url: str, waits: list[float]) -> Iterator[None]:
    """Ask for health over and over within the block; how long each took."""
    done, asked = threading.Event(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not done.is_set():
                began = time.monotonic()
                client.get("/healthz")
                waits.append(time.monotonic() - began)
                asked.set()

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@on_sqlite
def test_caps_of_a_project(client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch):
    file = api.upload(client, sums())
    with pytest.raises(
        openai.BadRequestError, match="10000000 steps, more than the limit of 5000000"
    ) as caught:
        create_job(client, api, file, reinforcement={"budget": {"steps": 10_000_000}})
    assert caught.value.code == "quota_exceeded"
    large = {
        "budget": {"steps": 1_000_000},
        "rollout": {"prompts_per_step": 8, "samples_per_prompt": 10_000},
    }
    with pytest.raises(
        openai.BadRequestError, match="80000000000 samples, more than the limit of 1000000000"
    ):
        create_job(client, api, file, reinforcement=large)
    ten = {"budget": {"steps": 10}, "rollout": {"prompts_per_step": 2, "samples_per_prompt": 4}}
    for setting, most in (("steps", 25), ("samples", 200), ("jobs", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(get_settings(), f"project_max_{setting}", most)
            made = [create_job(client, api, file, reinforcement=ten) for _ in range(2)]
            with pytest.raises(openai.PermissionDeniedError, match=f"have .* {setting}; .* limit of {most}"):
                create_job(client, api, file, reinforcement=ten)
            client.fine_tuning.jobs.cancel(made[0].id)
            made.append(create_job(client, api, file, reinforcement=ten))
            for job in made[1:]:
                client.fine_tuning.jobs.cancel(job.id)


@on_sqlite
def test_experiments_have_a_number_of_checks(api: Api):
    environment = {"type": "environment", "task": "chain_sum"}
    body = {
        "name": "x",
        "model": "tiny",
        "arms": [{"name": f"a{n}", "algorithm": {"type": "grpo"}} for n in range(26)],
        "tasks": [{"name": f"t{n}", "environment": environment} for n in range(20)],
        "seeds": [0],
        "budget": {"steps": 1},
    }
    answer = httpx.post(f"{api.url}/v1/experiments", json=body, timeout=60)
    assert answer.status_code == 400
    assert "520 distinct jobs, more than 500" in answer.json()["error"]["message"]


@on_sqlite
def test_a_stream_ends_with_its_key(keyed: Keyed, monkeypatch: pytest.MonkeyPatch):
    # So that what its end has told is what the next request is refused by.
    monkeypatch.setattr("app.keys.cache.KNOWN_SECONDS", 60.0)
    job = create_job(keyed.owner, keyed.api, keyed.api.upload(keyed.owner, sums())).id
    url = f"{keyed.api.url}/v1/fine_tuning/jobs/{job}/events?stream=true"
    headers = {"authorization": f"Bearer {keyed.secrets[0]}"}
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")
        revoke_key(keyed.ids[0])
        began = time.monotonic()
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert time.monotonic() - began < 12, "before the next sign of life"
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{keyed.api.url}/v1/models", headers=headers).status_code == 401


def test_a_project_has_its_share():
    async def ask() -> None:
        shares = Shares("requests", most=2, waiting=1)
        async with shares.of("a", 9), shares.of("a", 9), shares.of("b", 9):
            with pytest.raises(TooManyRequests, match=r"2 have been in progress for 0\.2 s"):
                async with shares.of("a", 0.2):
                    pass
            first = asyncio.create_task(enter(shares))
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests, match="1 are waiting"):
                await enter(shares)
        await first  # there was room in time
        assert not shares._projects

    async def enter(shares: Shares) -> None:
        async with shares.of("a", 9):
            pass

    asyncio.run(ask())


@contextmanager
def bounded_server() -> Iterator[tuple[str, int]]:
    """The API as ``serve`` starts it, as to what clients may take."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(), http=http_protocol.BoundedHttp, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        address = listener.getsockname()
        wait_until_up(f"http://127.0.0.1:{address[1]}")
        yield address
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def answered(connection: socket.socket) -> bytes:
    """What comes before the other side closes."""
    connection.settimeout(60)
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


@on_sqlite
def test_slow_and_endless_clients_are_let_go(
    database_url: str, api_environment: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(http_protocol, "PROGRESS_SECONDS", 2.0)
    with bounded_server() as address, ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(50)]
        for one in slow:
            one.sendall(b"GET /healthz HTTP/1.1\r\nx: ")
        url = f"http://127.0.0.1:{address[1]}"
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200, "others go on"
        assert {answered(one)[:12] for one in slow} == {b"HTTP/1.1 408"}
        with socket.create_connection(address) as silent:
            assert answered(silent)[:12] == b"HTTP/1.1 408"
        with socket.create_connection(address) as endless:
            endless.sendall(b"GET /healthz HTTP/1.1\r\n")
            try:
                for _ in range(200):
                    endless.sendall(b"x: " + b"y" * 10_000 + b"\r\n")
            except ConnectionError:
                pass
            assert answered(endless)[:12] in (b"HTTP/1.1 431", b"")
        with socket.create_connection(address) as large:
            large.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 70_000 + b"\r\n\r\n")
            assert answered(large)[:12] in (b"HTTP/1.1 431", b"")
        with socket.create_connection(address) as trickle:
            trickle.sendall(
                b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n"
                b"content-type: multipart/form-data; boundary=b\r\n\r\n--b"
            )
            assert b"HTTP/1.1 408" in answered(trickle)
        for _ in range(2):  # a connection that is kept starts anew each time
            with httpx.Client(base_url=url, timeout=60) as client:
                assert client.get("/healthz").status_code == 200
                assert client.get("/v1/models").status_code == 200


@on_sqlite
def test_garbage_is_not_looked_for_in_what_stays(database_url: str, api_environment: Any):
    """Else each full collection stops all answers for as long as the whole program's objects take."""

    async def kept() -> int:
        app = served_app()
        async with app.router.lifespan_context(app):
            return gc.get_freeze_count()

    try:
        assert asyncio.run(kept()) > 100_000
    finally:
        gc.unfreeze()
