"""Graders that ask others: where they may go, how long they wait, and when they try again."""

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fixtures.http_server import Reply, Request, Server, dripping
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grader, Sample
from trainer.graders.spec import HttpGrader
from trainer.system import guarded_http
from trainer.system.addresses import Reach, Refused
from trainer.system.guarded_http import NoAnswer

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes....").decode()


@pytest.fixture(autouse=True)
def operator(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("POLICYSPLIT_GRADER_SECRETS", '{"hook": "HOOK_SECRET", "unset": "NO_SUCH_VARIABLE"}')
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("POLICYSPLIT_GRADER_ALLOWED_HOSTS", json.dumps([server.netloc]))
    monkeypatch.setattr("trainer.graders.remote.FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def build(server: Server) -> Iterator[Callable[..., Grader]]:
    built: list[Grader] = []

    def make(**options: Any) -> Grader:
        fields: dict[str, Any] = {"url": f"{server.url}/hook", "secret": "hook"} | options
        built.append(build_grader(HttpGrader(**fields)))
        return built[-1]

    yield make
    for grader in built:
        grader.close()


def reach(*allowed: str) -> Reach:
    return Reach(frozenset(allowed), "POLICYSPLIT_GRADER_ALLOWED_HOSTS")


def rewarding(reward: Any, **more: Any) -> Callable[[Request], Reply]:
    return lambda _request: Reply({"reward": reward, **more})


def test_it_posts_item_and_sample_and_reads_the_reward(build: Callable[..., Grader], server: Server):
    server.answer = rewarding(0.25, scores={"length": 12, "odd": "x"})
    grade = build(name="mine")({"answer": "ö"}, '{"x": 1}')
    assert (grade.reward, grade.scores) == (0.25, {"mine": 0.25, "length": 12.0})
    (request,) = server.requests
    assert request.path == "/hook"
    assert request.json == {
        "grader": "mine",
        "item": {"answer": "ö"},
        "sample": {"output_text": '{"x": 1}', "output_json": {"x": 1}},
    }


def test_requests_are_signed_as_standard_webhooks_are(build: Callable[..., Grader], server: Server):
    server.answer = rewarding(1)
    build()({}, "\ud800 text")
    (request,) = server.requests
    headers = request.headers
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert SECRET not in repr(request)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "reward is null"),
        ({"reward": "1"}, 'reward is "1"'),
        ({"reward": True}, "reward is true"),
        ({"reward": 2}, "gave 2; a reward must be from 0 to 1"),
        (b'{"reward": NaN}', "reward is nan, which is not a number"),
        (b'{"reward": 1e999}', "reward is Infinity"),
        (b'{"reward": ' + b"9" * 400 + b"}", "reward is 9999"),
        ([1], "not a JSON object"),
        (b"<html>", "not a JSON object: <html>"),
        (b"[" * 100_000, "not a JSON object"),
        (b"x" * (5 << 20), "longer than"),
    ],
)
def test_an_answer_without_a_reward_is_an_error(
    build: Callable[..., Grader], server: Server, body: Any, says: str
):
    server.answer = lambda _request: Reply(body)
    grade = build(max_retries=0)({}, "x")
    assert grade.reward is None
    assert grade.error is not None and says.lower() in grade.error.lower()


def test_it_tries_again_with_the_same_id_and_then_gives_up(build: Callable[..., Grader], server: Server):
    replies = iter([Reply(status=503), Reply(status=429, headers={"retry-after": "1"}), Reply({"reward": 1})])
    server.answer = lambda _request: next(replies)
    started = time.monotonic()
    assert build()({}, "x").reward == 1.0
    assert time.monotonic() - started >= 1
    assert len({request.headers["webhook-id"] for request in server.requests}) == 1

    server.requests.clear()
    server.answer = lambda _request: Reply(b"out of order", status=500)
    grade = build(max_retries=2)({}, "x")
    assert grade.error is not None and "answered 500: out of order (after 3 tries)" in grade.error
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_another_try_cannot_mend_is_not_tried_again(
    build: Callable[..., Grader], server: Server, status: int
):
    server.answer = lambda _request: Reply(b"no", status=status)
    assert f"answered {status}" in (build()({}, "x").error or "")
    assert len(server.requests) == 1


def test_redirects_are_not_followed(build: Callable[..., Grader], server: Server):
    server.answer = lambda _request: Reply(status=302, headers={"location": f"{server.url}/elsewhere"})
    assert "redirect (302), which is not followed" in (build()({}, "x").error or "")
    assert [request.path for request in server.requests] == ["/hook"]


def test_who_does_not_answer_in_time_is_no_zero(build: Callable[..., Grader], server: Server):
    release = threading.Event()

    def hang(_request: Request) -> Reply:
        release.wait(30)
        return Reply({"reward": 1})

    server.answer = hang
    try:
        started = time.monotonic()
        grade = build(timeout_seconds=0.3, max_retries=1)({}, "x")
        assert (grade.reward, grade.kind) == (None, "unresponsive_reward_error")
        assert "no answer within 0.3 s (after 2 tries)" in (grade.error or "")
        assert time.monotonic() - started < 10
    finally:
        release.set()


def test_an_answer_that_drips_is_cut_off():
    """A byte now and then keeps every single read short of its limit; the request's own limit holds."""
    with dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n") as netloc:
        client = guarded_http.GuardedHttp(reach(netloc), 1)
        with contextlib.closing(client), pytest.raises(NoAnswer, match=r"within 0\.5 s"):
            client.post(f"http://{netloc}/", b"{}", {}, 0.5)


def test_no_more_requests_at_a_time_than_allowed(build: Callable[..., Grader], server: Server):
    running, most = 0, 0
    lock, enough = threading.Lock(), threading.Event()

    def count(_request: Request) -> Reply:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                enough.set()
        enough.wait(10)
        with lock:
            running -= 1
        return Reply({"reward": 1})

    server.answer = count
    grades = build(concurrency=3).grade_many([Sample({}, "x")] * 12)
    assert [grade.reward for grade in grades] == [1.0] * 12
    assert most == 3


PRIVATE = [
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://10.1.2.3/",
    "http://192.168.0.1:8080/",
    "http://172.16.0.1/",
    "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/",
    "http://0.0.0.0/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    # Of these Python's own opinion differs between its patch releases, or is of no use.
    "http://192.0.0.192/",
    "http://168.63.129.16/",
    "http://[fec0::1]/",
    "http://[3fff::1]/",
    "http://[2001:db8::1]/",
    "http://[::7f00:1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[64:ff9b::a83f:8110]/",  # 168.63.129.16 behind NAT64
    "http://[2001:0:1:2:3:4:5:6]/",
    "http://[5f00::1]/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_at_set_up(url: str):
    with pytest.raises(InvalidSpec, match="does not have a public address; the operator can allow") as caught:
        build_grader(HttpGrader(url=url, secret="hook"))
    assert caught.value.param == "grader.url"


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.1", "2130706433", "0"])
def test_names_and_other_spellings_of_private_addresses_are_refused(host: str):
    with pytest.raises(Refused, match="not have a public address"):
        reach().checked(host, 80, socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://example.com/", "begins with https"),
        ("file:///etc/passwd", "begins with https"),
        ("example.com", "begins with https"),
        ("http://user:password@example.com/", "secrets do not belong in a URL"),
        ("http://[::1", "is not a URL"),
        ("http://example.com:99999/", "is not a URL"),
        ("http://", "begins with https"),
        ("https://example.com/#x", "a fragment"),
        ("https://example.com/a b", "begins with https"),
        ("https://example.com/\u00e4", "non-ASCII characters"),
        ("https://a..example.com/", "its host is not a name"),
        ("https://a.localhost/", "not have a public address"),
        ("https://" + "a" * 3000, "it may have 2048"),
    ],
)
def test_urls_that_are_none_are_refused(url: str, says: str):
    with pytest.raises(Refused, match=says):
        reach().check_url(url)


def test_every_address_is_checked_and_the_checked_one_is_used(
    monkeypatch: pytest.MonkeyPatch, build: Callable[..., Grader], server: Server
):
    """A name with one private address is refused; a name that changes (rebinding) gains nothing."""
    port = int(server.netloc.rpartition(":")[2])
    answers: list[list[str]] = []

    real = socket.getaddrinfo

    def lookup(host: str, port: int, *options: Any, **named: Any) -> Any:
        if not host.endswith(".example"):
            return real(host, port, *options, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers.pop(0)]

    monkeypatch.setattr(guarded_http.socket, "getaddrinfo", lookup)
    answers[:] = [["93.184.216.34", "127.0.0.1"]]
    grade = build(url=f"http://rebinding.example:{port}/", max_retries=0)({}, "x")
    assert "not have a public address" in (grade.error or "")
    # Checked once and connected to at once: there is no second look-up that could say something else.
    answers[:] = [["127.0.0.1"], ["127.0.0.1"]]
    client = guarded_http.GuardedHttp(reach(f"inside.example:{port}"), 1)
    server.answer = rewarding(1)
    assert client.post(f"http://inside.example:{port}/", b"{}", {}, 5).status == 200
    assert len(answers) == 1 and server.requests[-1].headers["host"] == f"inside.example:{port}"
    client.close()


@pytest.mark.parametrize(
    ("secret", "says"),
    [("other", "no secret 'other'.*has: hook, unset"), ("unset", "NO_SUCH_VARIABLE is not set")],
)
def test_secrets_are_the_operators_by_name(server: Server, secret: str, says: str):
    with pytest.raises(InvalidSpec, match=says):
        build_grader(HttpGrader(url=server.url, secret=secret))


def test_closing_does_not_wait_for_the_next_try(build: Callable[..., Grader], server: Server):
    asked = threading.Event()

    def unavailable(_request: Request) -> Reply:
        asked.set()
        return Reply(status=503, headers={"retry-after": "30"})

    server.answer = unavailable
    grader = build()
    grades = []
    thread = threading.Thread(target=lambda: grades.append(grader({}, "x")))
    thread.start()
    assert asked.wait(10)
    started = time.monotonic()
    grader.close()
    thread.join()
    assert time.monotonic() - started < 10
    assert grades[0].reward is None
