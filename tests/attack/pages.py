"""A web page of another origin, in a real Chromium, tries to drive a service that has no keys."""

import contextlib
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page

from tests.attack.attempt import Attempt

#: A name of the attacker's that leads to this machine: flags for the browser that is to resolve it.
REBOUND = "rebound.example"
FLAGS = [f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"]

_WEBHOOK = '{"name": "page", "url": "https://evil.example/", "event_types": ["fine_tuning.job.succeeded"]}'
_GRADER = (
    '{"grader": {"type": "string_check", "name": "x", "input": "a", "operation": "eq", "reference": "a"}, '
    '"model_sample": "a"}'
)
#: Each sends what browsers send without asking the service first.
_SENDING: dict[str, str] = {
    "fetch no-cors, text/plain;json": """
        await fetch(base + "/v1/webhook_endpoints", {method: "POST", mode: "no-cors", body: webhook,
            headers: {"content-type": "text/plain;json"}})""",
    "fetch no-cors, text/plain; application/json": """
        await fetch(base + "/v1/webhook_endpoints", {method: "POST", mode: "no-cors", body: webhook,
            headers: {"content-type": "text/plain; application/json"}})""",
    "fetch no-cors, a Blob without a type": """
        await fetch(base + "/v1/webhook_endpoints", {method: "POST", mode: "no-cors",
            body: new Blob([webhook])})""",
    "fetch no-cors, a Blob without a type, to a fast route": """
        await fetch(base + "/v1/chat/completions", {method: "POST", mode: "no-cors",
            body: new Blob(['{"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}'])})""",
    "fetch with CORS, application/json": """
        await fetch(base + "/v1/webhook_endpoints", {method: "POST", body: webhook,
            headers: {"content-type": "application/json"}})""",
    "sendBeacon": """
        navigator.sendBeacon(base + "/v1/webhook_endpoints", new Blob([webhook]));
        await new Promise(done => setTimeout(done, 300))""",
    "fetch no-cors, a key of the service": """
        await fetch(base + "/v1/api_keys", {method: "POST", mode: "no-cors",
            body: new Blob(['{"name": "page"}'])})""",
    "fetch no-cors, a multipart upload": """
        const form = new FormData();
        form.append("purpose", "fine-tune");
        form.append("file", new Blob(['{"messages": [{"role": "user", "content": "hi"}]}\\n']), "x.jsonl");
        await fetch(base + "/v1/files", {method: "POST", mode: "no-cors", body: form})""",
    "fetch no-cors, a POST without a body": """
        await fetch(base + "/v1/fine_tuning/jobs/" + job + "/cancel", {method: "POST", mode: "no-cors"})""",
    "fetch no-cors, a grader to run": """
        await fetch(base + "/v1/fine_tuning/alpha/graders/run", {method: "POST", mode: "no-cors",
            body: new Blob([grader])})""",
}
#: Forms leave the page: what is sent is what a browser sends for each ``enctype``.
_FORMS = {
    "form, text/plain": ("text/plain", "/v1/webhook_endpoints", None),
    "form, urlencoded": ("application/x-www-form-urlencoded", "/v1/webhook_endpoints", None),
    "form, multipart upload": ("multipart/form-data", "/v1/files", "file"),
    "form, POST without fields": ("text/plain", "/v1/fine_tuning/jobs/{job}/cancel", None),
}


def attack(browser: Browser, base: str, job: str) -> list[Attempt]:
    """Everything that a page may try at the service at ``base``, of which ``job`` is a queued job."""
    with _attackers_page() as url, Wiretap(base) as wiretap:
        context = browser.new_context()
        attacker = _Attacker(context.new_page(), url, wiretap, job)
        attacker.page.goto(url)
        found = [attacker.send(name, script) for name, script in _SENDING.items()]
        found += [attacker.submit(name, *form) for name, form in _FORMS.items()]
        attacker.page.goto(url)
        found += [
            attacker.embed(kind, path) for kind in ("img", "script") for path in ("/v1/models", "/docs")
        ]
        found += [attacker.frame(path) for path in ("/", "/docs", "/v1/models")]
        found.append(attacker.rebind())
        context.close()
    return found


class Wiretap:
    """Passes a service's bytes on and notes the status of each answer: browsers hide what they block."""

    def __init__(self, base: str):
        self._target = (urlsplit(base).hostname, urlsplit(base).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self._statuses: list[int] = []

    def __enter__(self) -> "Wiretap":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # On Linux a close alone does not end an accept that waits.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def heard(self) -> list[int]:
        """The answers since the last time that this was asked."""
        heard, self._statuses = self._statuses, []
        return heard

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._target)
                threading.Thread(target=self._pass_on, args=(here, there, None), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(there, here, _STATUS), daemon=True).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, status: re.Pattern[bytes] | None
    ) -> None:
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(1 << 16):
                if status is not None and (found := status.match(data)):
                    self._statuses.append(int(found[1]))
                target.sendall(data)


_STATUS = re.compile(rb"HTTP/1.1 (\d{3}) ")


class _Attacker:
    """A tab with a page of another origin in it."""

    def __init__(self, page: Page, url: str, wiretap: Wiretap, job: str):
        self.page, self._url, self._wiretap, self._job = page, url, wiretap, job
        self._base = wiretap.base

    def send(self, name: str, script: str) -> Attempt:
        before = self._state()
        whole = f"async ([base, webhook, grader, job]) => {{ try {{ {script} }} catch {{ return }} }}"
        self.page.evaluate(whole, [self._base, _WEBHOOK, _GRADER, self._job])
        return self._attempt(name, self._wiretap.heard(), before)

    def submit(self, name: str, kind: str, path: str, file: str | None) -> Attempt:
        before = self._state()
        self.page.goto(self._url)
        action = self._base + path.format(job=self._job)
        with self.page.expect_navigation():
            self.page.evaluate(_SUBMIT, [action, kind, _WEBHOOK, file])
        return self._attempt(name, self._wiretap.heard(), before)

    def embed(self, tag: str, path: str) -> Attempt:
        """What a page cannot read, it could show or run."""
        before = self._state()
        said = self.page.evaluate(_EMBED, [tag, self._base + path])
        attempt = self._attempt(f"{tag} {path}", self._wiretap.heard(), before)
        return attempt if said == "does not load" else replace(attempt, held=False, seen="it loads")

    def frame(self, path: str) -> Attempt:
        self.page.evaluate(_FRAME, self._base + path)
        shown = [frame.url for frame in self.page.frames if frame.url.startswith(self._base)]
        heard = self._wiretap.heard()
        return Attempt("page", f"frame {path}", not shown, f"answered {heard}, shows {shown or 'nothing'}")

    def rebind(self) -> Attempt:
        """The attacker's name leads to the service: for the browser it is the page's own origin."""
        before = self._state()
        self.page.goto(f"http://{REBOUND}:{self._wiretap.port}/healthz")
        self.page.evaluate(
            """async webhook => {
                await fetch("/v1/models");
                await fetch("/v1/webhook_endpoints", {method: "POST", body: webhook,
                    headers: {"content-type": "application/json"}});
            }""",
            _WEBHOOK,
        )
        heard = self._wiretap.heard()
        attempt = self._attempt("a name that leads to loopback", heard, before)
        return attempt if len(heard) >= 3 else replace(attempt, held=False)

    def _state(self) -> Any:
        """What a page must not be able to change."""
        with httpx.Client(base_url=self._base) as client:
            paths = ("/v1/webhook_endpoints", "/v1/files", "/v1/experiments", "/v1/api_keys")
            lists = [client.get(path).json()["data"] for path in paths]
            state = lists, client.get(f"/v1/fine_tuning/jobs/{self._job}").json()["status"]
        self._wiretap.heard()
        return state

    def _attempt(self, name: str, heard: list[int], before: Any) -> Attempt:
        refused = all(400 <= status < 500 for status in heard)
        held = refused and self._state() == before
        return Attempt("page", name, held, f"answered {', '.join(map(str, heard)) or 'nothing: not sent'}")


_SUBMIT = """([action, kind, webhook, file]) => {
    const form = document.createElement("form");
    Object.assign(form, {action, method: "POST", enctype: kind});
    const field = document.createElement("input");
    if (file) {
        const purpose = document.createElement("input");
        Object.assign(purpose, {name: "purpose", value: "fine-tune"});
        form.append(purpose);
        field.type = "file";
        const chosen = new DataTransfer();
        chosen.items.add(new File(['{"messages": [{"role": "user", "content": "hi"}]}\\n'], "x.jsonl"));
        field.files = chosen.files;
        field.name = file;
    } else {
        // name=value: the sign between them ends up in a string of the JSON.
        Object.assign(field, {name: webhook.slice(0, -1) + ', "x": "', value: '"}'});
    }
    form.append(field);
    document.body.append(form);
    form.submit();
}"""
_EMBED = """([tag, url]) => new Promise(done => {
    const one = Object.assign(document.createElement(tag), {src: url});
    one.onload = () => done("loads");
    one.onerror = () => done("does not load");
    document.body.append(one);
})"""
_FRAME = """url => new Promise(done => {
    const frame = Object.assign(document.createElement("iframe"), {src: url});
    frame.onload = done;
    document.body.append(frame);
})"""


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>A page of another origin</title><body>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _attackers_page() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
