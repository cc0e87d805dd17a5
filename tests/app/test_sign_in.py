"""Signing in with an identity provider: a real one on this machine, from the button to the sign-out."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from oidc_provider_mock import User, run_server_in_thread
from sqlalchemy import select

from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, AuditEntry, SignIn
from app.keys.sessions import COOKIE
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums
from tests.fixtures.http_server import Reply, Server
from worker.figures_server import FiguresServer

RULES = [
    {"claim": "groups", "value": "gpu-admins", "operator": True},
    {"claim": "groups", "value": "ml", "project": "Strangers", "scopes": ["read", "infer"]},
    {"claim": "email", "value": "*@example.org", "scopes": ["read"]},
]
USERS = [
    User(sub="ada", claims={"email": "ada@example.org", "email_verified": True, "groups": ["x", "ml"]}),
    User(sub="bob", claims={"email": "bob@example.org", "email_verified": True}),
    User(sub="eve", claims={"email": "eve@example.com", "email_verified": True}),
    User(sub="mal", claims={"email": "mal@example.org", "email_verified": False}),
]


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of an identity provider."""
    with run_server_in_thread(user_claims=USERS, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


def let_people_sign_in(monkeypatch: pytest.MonkeyPatch, issuer: str, url: str) -> None:
    """Have the service at ``url`` send people to ``issuer``."""
    given = {
        "ISSUER": issuer,
        "CLIENT_ID": "policysplit",
        "CLIENT_SECRET": "secret",
        "RULES": json.dumps(RULES),
        "PUBLIC_URL": url,
    }
    for name, value in given.items():
        monkeypatch.setenv(f"POLICYSPLIT_OIDC_{name}", value)
    get_settings.cache_clear()


@pytest.fixture
def service(keyed: Keyed, issuer: str, monkeypatch: pytest.MonkeyPatch) -> Keyed:
    """The API, which sends people there."""
    let_people_sign_in(monkeypatch, issuer, keyed.api.url)
    return keyed


class Browser:
    """Keeps cookies and follows nothing by itself. ``here``: the service's address."""

    def __init__(self, here: str):
        self.here = here
        self.http = httpx.Client(timeout=30)

    def begin(self) -> str:
        """To the provider; the address there."""
        answer = self.http.get(f"{self.here}/auth/login")
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def come_back(self, address: str, sub: str) -> httpx.Response:
        """Be ``sub`` at the provider, and go where it sends the browser."""
        answer = self.http.post(address, data={"sub": sub})
        return self.http.get(answer.headers["location"])

    def sign_in(self, sub: str) -> httpx.Response:
        return self.come_back(self.begin(), sub)

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        sent = {"origin": self.here, "sec-fetch-site": "same-origin"} | headers
        return self.http.request(method, self.here + path, headers=sent)


@pytest.fixture
def browser(service: Keyed) -> Iterator[Browser]:
    one = Browser(service.api.url)
    with one.http:
        yield one


def test_somebody_signs_in_works_and_signs_out(service: Keyed, browser: Browser) -> None:
    assert browser.ask("GET", "/auth/session").json()["email"] is None
    address = browser.begin()
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"] and len(asked["code_challenge"][0]) == 43
    assert all(len(asked[name][0]) >= 32 for name in ("state", "nonce"))
    back = browser.come_back(address, "ada")
    assert (back.status_code, back.headers["location"]) == (303, "/")
    cookie = next(one for one in back.headers.get_list("set-cookie") if one.startswith(COOKIE))
    assert re.search(r"HttpOnly.*SameSite=strict", cookie) and "Path=/" in cookie
    who = browser.ask("GET", "/auth/session").json()
    assert (who["email"], who["scopes"], who["operator"]) == ("ada@example.org", ["infer", "read"], False)
    # The groups say which project, and what may be done in it.
    assert browser.ask("GET", "/v1/storage").json()["project_id"] == service.stranger_project
    refused = browser.ask("DELETE", "/v1/files/file-x")
    assert refused.status_code == 403 and "'train'" in refused.text
    with read_session() as session:
        row = session.scalars(select(SignIn)).one()
        entry = session.scalars(select(AuditEntry).where(AuditEntry.type == "login.succeeded")).one()
    secret = browser.http.cookies[COOKIE]
    assert secret not in json.dumps([row.sha256, row.id, entry.details]) and row.email == "ada@example.org"
    assert browser.ask("POST", "/auth/logout").status_code == 204
    over = browser.http.get(f"{browser.here}/v1/storage", headers={"cookie": f"{COOKIE}={secret}"})
    assert over.status_code == 401, "the cookie opens nothing any more, wherever it was copied to"
    # Keys go on beside it.
    key = {"authorization": f"Bearer {service.secrets[0]}"}
    assert httpx.get(f"{browser.here}/v1/storage", headers=key).json()["project_id"] == DEFAULT_PROJECT


@on_sqlite
def test_pages_of_elsewhere_do_nothing_with_the_cookie(browser: Browser) -> None:
    browser.sign_in("bob")
    path = "/v1/storage"
    assert browser.ask("GET", path).is_success
    foreign = (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    )
    for headers in foreign:
        for method, where in (("GET", path), ("POST", "/v1/files"), ("POST", "/auth/logout")):
            answer = browser.ask(method, where, **headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    # A change of which the browser says nothing is none of its page's.
    assert browser.http.post(browser.here + "/v1/files").status_code == 403
    assert browser.ask("GET", path).is_success


@on_sqlite
def test_where_people_sign_in_nobody_is_answered_without_also_before_the_first_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert httpx.get(f"{api.url}/v1/models").is_success, "until then whoever is on the machine"
    let_people_sign_in(monkeypatch, "http://127.0.0.1:9", api.url)
    assert httpx.get(f"{api.url}/v1/models").status_code == 401
    assert httpx.get(f"{api.url}/openapi.json").json()["security"] == [{"key": []}]
    figures = FiguresServer("127.0.0.1", 0)
    figures.start()
    try:
        assert httpx.get(f"http://127.0.0.1:{figures.port}/metrics").status_code == 401
    finally:
        figures.close()


@on_sqlite
def test_who_may_not_is_told_why(service: Keyed, browser: Browser) -> None:
    for sub, words in (
        ("eve", "eve@example.com may not use this service: no rule in POLICYSPLIT_OIDC_RULES matches"),
        ("mal", "the provider has not verified the email address"),
    ):
        answer = browser.sign_in(sub)
        assert answer.status_code == 403 and words in answer.text
        assert answer.headers["content-type"].startswith("text/html") and COOKIE not in browser.http.cookies
    address = browser.begin()
    denied = browser.http.post(address, data={"action": "deny"}).headers["location"]
    # This provider leaves out what it has to send along.
    state = parse_qs(urlsplit(address).query)["state"][0]
    assert "The identity provider refused" in browser.http.get(f"{denied}&state={state}").text
    strange = browser.http.get(f"{browser.here}/auth/callback?state=x&code=y")
    assert strange.status_code == 400 and "not started in this browser" in strange.text
    # Somebody else's way back, followed in this browser.
    other = Browser(browser.here)
    with other.http:
        answer = other.http.post(other.begin(), data={"sub": "bob"})
    browser.begin()
    swapped = browser.http.get(answer.headers["location"])
    assert swapped.status_code == 400 and COOKIE not in browser.http.cookies


@on_sqlite
def test_a_token_that_is_not_for_this_sign_in_lets_nobody_in(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = browser.begin()
    # The provider is asked with another nonce than the browser keeps.
    wrong = re.sub(r"nonce=[^&]+", "nonce=another-0123456789", address)
    answer = browser.come_back(wrong, "bob")
    assert answer.status_code == 400 and "nonce is wrong" in answer.text
    # A clock that is two days ahead.
    address = browser.begin()
    returned = browser.http.post(address, data={"sub": "bob"})
    now = time.time() + 2 * 86_400
    monkeypatch.setattr("app.signin.service.ATTEMPT_SECONDS", 1)
    monkeypatch.setattr("joserfc._rfc7519.claims._generate_now", lambda: int(now))
    answer = browser.http.get(returned.headers["location"])
    assert answer.status_code == 400 and "Do the clocks agree to within 60 s?" in answer.text


@on_sqlite
def test_a_provider_that_is_away_and_one_that_is_another(
    service: Keyed, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLICYSPLIT_OIDC_ISSUER", "http://127.0.0.1:9")
    get_settings.cache_clear()
    answer = browser.http.get(f"{browser.here}/auth/login")
    assert answer.status_code == 503 and "gave an unexpected answer" in answer.text
    assert answer.headers["retry-after"] == "10"
    issuer = service.api.url + "/nobody"
    monkeypatch.setenv("POLICYSPLIT_OIDC_ISSUER", issuer)
    get_settings.cache_clear()
    assert browser.http.get(f"{browser.here}/auth/login").status_code == 503
    monkeypatch.delenv("POLICYSPLIT_OIDC_RULES")
    get_settings.cache_clear()
    with pytest.raises(ValueError, match="oidc_rules"):
        get_settings()
    monkeypatch.delenv("POLICYSPLIT_OIDC_ISSUER")
    get_settings.cache_clear()
    assert browser.http.get(f"{browser.here}/auth/login").status_code == 404


@on_sqlite
def test_what_a_provider_or_a_browser_sends_askew_is_refused_in_words(
    keyed: Keyed, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_people_sign_in(monkeypatch, server.url, keyed.api.url)
    key = RSAKey.generate_key(2048, parameters={"kid": "k"})
    public: dict[str, Any] = {"keys": [key.as_dict(private=False)]}
    endpoints = {"authorization_endpoint": "/a", "token_endpoint": "/token", "jwks_uri": "/keys"}
    metadata = {"issuer": server.url} | {name: server.url + path for name, path in endpoints.items()}
    one = Browser(keyed.api.url)

    def come_back(keys: dict[str, Any], sent_state: str | None = None, **claims: str) -> httpx.Response:
        """From a provider with these keys, whose token says this beside what one has to say."""
        server.answer = lambda _: Reply(metadata)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(one.begin()).query).items()}
        now = int(time.time())
        said = {"iss": server.url, "aud": "policysplit", "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "k"}, {**said, "groups": ["gpu-admins"], **claims}, key)
        replies: dict[str, Any] = {"/token": {"id_token": token}, "/keys": keys}
        server.answer = lambda request: Reply(replies.get(request.path, metadata))
        query = {"code": "c", "state": sent_state or asked["state"]}
        return one.http.get(f"{one.here}/auth/callback", params=query)

    with one.http:
        for answer, status, words in (
            (come_back(public), 400, "Missing claim: &#x27;sub&#x27;"),
            (come_back({}, sub="ada"), 503, "gave an unexpected answer"),
            (come_back({"keys": None}, sub="ada"), 503, "gave an unexpected answer"),
            (come_back(public, "é", sub="ada"), 400, "not started in this browser"),
        ):
            assert (answer.status_code, words in answer.text) == (status, True), answer.text
            assert COOKIE not in one.http.cookies
        assert come_back(public, sub="ada").status_code == 303


@on_sqlite
def test_an_open_stream_ends_with_its_sign_in(service: Keyed, browser: Browser) -> None:
    browser.sign_in("ada")
    file = service.api.upload(service.stranger, sums())
    job_id = create_job(service.stranger, service.api, file).id
    path = f"{browser.here}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    with browser.http.stream("GET", path, headers={"sec-fetch-site": "same-origin"}) as stream:
        lines = stream.iter_lines()
        assert "Created" in next(line for line in lines if line.startswith("data: "))
        other = Browser(browser.here)
        with other.http:
            other.http.cookies = browser.http.cookies
            assert other.ask("POST", "/auth/logout").status_code == 204
        *_, last = (line for line in lines if line.startswith("data: "))
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["message"]) == (
        "invalid_api_key",
        "This browser is not signed in any more.",
    )


@on_sqlite
def test_a_sign_in_ends_by_itself(browser: Browser) -> None:
    browser.sign_in("bob")
    with write_session() as session:
        session.scalars(select(SignIn)).one().expires_at = time.time() - 1
    assert browser.ask("GET", "/v1/storage").status_code == 401
    browser.sign_in("bob")
    with read_session() as session:
        assert len(session.scalars(select(SignIn)).all()) == 1, "what is over goes with the next one"
