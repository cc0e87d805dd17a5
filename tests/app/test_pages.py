"""What a web page of another origin can do to the service: nothing, on any route, in a real browser."""

import re

import httpx
import openai
import pytest
from playwright.sync_api import expect

from app.core.auth import is_public
from app.main import create_app
from tests.attack import pages
from tests.fixtures.api import Api, Keyed, create_job, on_sqlite, sums
from tests.fixtures.browser import find_chromium, launched, tab

Route = tuple[str, str]


def routes() -> list[Route]:
    """Method and path of every route, files of pages included."""
    return [
        (method, re.sub(r"{\w+(:\w+)?}", "x", getattr(route, "path", "")))
        for route in create_app().routes
        for method in sorted(getattr(route, "methods", ()) or ())
    ]


ROUTES = routes()
FOREIGN: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"host": "evil.example"},
    {"host": "localhost.evil.example:8700"},
]


@on_sqlite
def test_no_route_takes_a_foreign_request(api: Api):
    assert len(ROUTES) > 50
    with httpx.Client(base_url=api.url) as client:
        for method, path in ROUTES:
            for headers in FOREIGN:
                answer = client.request(method, path, headers=headers)
                # A name that is not this machine's is refused before it is asked for what.
                wanted = 401 if "host" in headers and not is_public(path) else 403
                assert answer.status_code == wanted, (method, path, headers, answer.text)
                assert method == "HEAD" or answer.json()["error"]["code"] in (
                    "foreign_origin",
                    "invalid_api_key",
                )
                assert answer.headers["x-frame-options"] == "DENY"


@on_sqlite
def test_requests_of_our_own_page_and_of_programs_are_taken(api: Api):
    own = {"origin": api.url, "sec-fetch-site": "same-origin"}
    for headers in ({}, own, {"sec-fetch-site": "none"}):
        assert httpx.get(f"{api.url}/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{api.url}/healthz", headers=headers).status_code == 200
    # A link to a page may be followed from anywhere; what is not a page has no links.
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path, status in (("/", 200), ("/docs", 200), ("/v1/models", 403), ("/openapi.json", 403)):
        assert httpx.get(api.url + path, headers=followed).status_code == status
    framed = followed | {"sec-fetch-dest": "iframe"}
    assert httpx.get(api.url, headers=framed).status_code == 403


@on_sqlite
def test_with_keys_the_key_decides(keyed: Keyed):
    headers = {"origin": "https://proxy.example", "host": "proxy.example"}
    url = f"{keyed.api.url}/v1/models"
    assert httpx.get(url, headers=headers).status_code == 401
    headers["authorization"] = f"Bearer {keyed.secrets[0]}"
    assert httpx.get(url, headers=headers).status_code == 200


CONTENT_TYPES = [
    None,
    "text/plain",
    "text/plain;json",
    "text/plain; application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=json",
    "application/jsonp",
    "application/json-patch+json",
    "json",
]


@on_sqlite
def test_every_route_that_takes_json_takes_nothing_else(api: Api):
    """The description says which they are, so a route that is added is asked as well."""
    document = httpx.get(f"{api.url}/openapi.json").json()
    taking = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    assert len(taking) > 10
    with httpx.Client(base_url=api.url) as client:
        for method, path in taking:
            for kind in CONTENT_TYPES:
                headers = {} if kind is None else {"content-type": kind}
                answer = client.request(method, path, content=b"{}", headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (
                    400,
                    "invalid_content_type",
                ), (
                    method,
                    path,
                    kind,
                )
                assert "application/json" in answer.json()["error"]["message"]
            for kind in ("application/json", "Application/JSON; charset=utf-8"):
                answer = client.request(method, path, content=b"{}", headers={"content-type": kind})
                assert "content type" not in answer.text, (method, path, kind)


@on_sqlite
def test_pages_are_closed(api: Api):
    """HTML of ours says what it may load; HTML that nobody thought of may do nothing."""
    for path in ("/", "/docs"):
        policy = httpx.get(api.url + path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "script-src 'self'" in policy and "unsafe-eval" not in policy
    assert httpx.get(f"{api.url}/redoc").status_code == 404
    described = httpx.get(f"{api.url}/openapi.json").json()["paths"]
    html = {
        path
        for path, methods in described.items()
        for method in methods.values()
        if "text/html" in method["responses"].get("200", {}).get("content", {})
    }
    assert html == {"/v1/experiments/{experiment_id}/report"}, "see that a new one says what it may load"
    document = httpx.get(f"{api.url}/docs").text
    assert not re.search(r"(src|href)=.https?:", document), "nothing comes from elsewhere"


@on_sqlite
def test_a_long_boundary_is_refused(api: Api):
    for length, says in (
        (256, "ends before its closing boundary"),
        (257, "has 257 bytes"),
        (5000, "5000 bytes"),
    ):
        headers = {"content-type": f"multipart/form-data; boundary={'b' * length}"}
        answer = httpx.post(f"{api.url}/v1/files", content=b"x", headers=headers)
        assert answer.status_code == 400, (length, answer.text)
        assert length == 256 or says in answer.json()["error"]["message"]


@on_sqlite
def test_a_page_in_a_real_browser(api: Api, client: openai.OpenAI):
    if find_chromium() is None:
        pytest.skip("no Chromium on the PATH: scripts/browser.sh installs one")
    job = create_job(client, api, api.upload(client, sums())).id
    with launched(*pages.FLAGS) as browser:
        attempts = pages.attack(browser, api.url, job)
        # What nobody refuses would not show that the others were refused.
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{api.url}/healthz")
        assert page.evaluate("async () => (await fetch('/v1/models')).status") == 200
        context.close()
    assert len(attempts) >= 18
    assert [one for one in attempts if not one.held] == []


@on_sqlite
def test_the_reference_is_complete_without_the_internet(api: Api):
    if find_chromium() is None:
        pytest.skip("no Chromium on the PATH: scripts/browser.sh installs one")
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    # A tab fails for a violation of the policy.
    with launched(alone) as browser, tab(browser) as opened:
        opened.page.goto(f"{api.url}/docs")
        opened.page.locator(".opblock-post .opblock-summary-control").first.click()
        expect(opened.page.get_by_text("Request body").first).to_be_visible()
