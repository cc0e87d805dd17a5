"""Which scope opens which route: every route of the application with every scope, and with none."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from app.core.error_handlers import install
from app.core.requests import StrictRoute
from app.core.scope_names import SCOPES
from app.core.scopes import FIELD, ScopedRoute
from app.core.tables import DEFAULT_PROJECT
from app.keys.repository import Caller
from app.keys.service import create_key
from app.main import create_app
from tests.app.test_isolation import ROUTES, Route
from tests.fixtures.api import Api, Keyed, on_sqlite

#: What is neither read, where it is a GET, nor train, where it is anything else.
OTHER: dict[Route, set[str]] = {
    ("GET", "/v1/models"): {"read", "infer"},
    ("GET", "/v1/models/{model_id}"): {"read", "infer"},
    ("POST", "/v1/chat/completions"): {"infer"},
    ("POST", "/v1/completions"): {"infer"},
    ("POST", "/v1/responses"): {"infer"},
    **{
        route: {"admin"}
        for route in (
            ("GET", "/v1/api_keys"),
            ("GET", "/v1/audit_log"),
            ("POST", "/v1/api_keys"),
            ("POST", "/v1/api_keys/{key_id}/revoke"),
            ("POST", "/v1/projects"),
            ("POST", "/v1/projects/{project_id}"),
            ("POST", "/v1/prices"),
            ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/redeliver"),
            ("POST", "/v1/webhook_endpoints"),
            ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}"),
            ("DELETE", "/v1/webhook_endpoints/{webhook_endpoint_id}"),
            ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"),
            ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/test"),
            ("POST", "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions"),
            (
                "DELETE",
                "/v1/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions/{permission_id}",
            ),
            ("POST", "/v1/workers/{worker_id}/drain"),
            ("POST", "/v1/workers/{worker_id}/undrain"),
        )
    },
}


def opened_by(route: Route) -> set[str]:
    """The scopes that are to open a route."""
    return OTHER.get(route, {"read"} if route[0] == "GET" else {"train"})


def test_every_route_says_which_scopes_open_it() -> None:
    silent = [
        f"{route.methods} {route.path}"
        for route in create_app().routes
        if isinstance(route, ScopedRoute) and FIELD not in (route.openapi_extra or {})
    ]
    assert not silent, "give these READ, TRAIN, INFER or ADMIN of app.core.scopes"
    assert OTHER.keys() <= set(ROUTES)


@on_sqlite
def test_every_route_with_every_scope_and_with_none(keyed: Keyed) -> None:
    """What is refused says which scope is needed; what is not fails, if it does, for another reason."""
    secrets = {scope: create_key(scope, DEFAULT_PROJECT, scopes=[scope])[1] for scope in SCOPES}
    wrong: list[str] = []
    with httpx.Client(base_url=keyed.api.url, timeout=30) as client:
        for route in ROUTES:
            method, url = route[0], re.sub(r"{\w+}", "nothing", route[1])
            if (status := client.request(method, url).status_code) != 401:
                wrong.append(f"{route} without a key: {status}")
            for scope, secret in secrets.items():
                answer = client.request(method, url, headers={"authorization": f"Bearer {secret}"})
                refused = answer.status_code == 403 and answer.json()["error"]["code"] == "missing_scope"
                told = refused and all(repr(one) in answer.text for one in opened_by(route))
                if answer.status_code >= 500 or refused == (scope in opened_by(route)) or refused != told:
                    wrong.append(f"{route} with {scope}: {answer.status_code} {answer.text[:100]}")
    assert not wrong, "\n".join(wrong)


def test_a_route_that_says_nothing_is_the_admins() -> None:
    router = APIRouter(route_class=StrictRoute)

    @router.get("/forgotten")
    async def forgotten() -> str:
        return "open"

    app = FastAPI()
    app.include_router(router)
    install(app)

    async def status(*scopes: str) -> int:
        caller = Caller(DEFAULT_PROJECT, scopes=frozenset(scopes))

        async def called(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"caller": caller}}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(called), base_url="http://here") as client:
            return (await client.get("/forgotten")).status_code

    assert asyncio.run(status("read", "train", "infer")) == 403
    assert asyncio.run(status("admin")) == 200


def ask(api: Api, secret: str, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.request(method, f"{api.url}/v1{path}", headers=headers, json=body)


def test_no_key_makes_one_that_may_more_than_itself(keyed: Keyed) -> None:
    api, whole = keyed.api, keyed.secrets[0]
    made = ask(api, whole, "POST", "/api_keys", {"name": "some", "scopes": ["admin", "read"]}).json()
    assert made["scopes"] == ["read", "admin"]
    beyond = ask(api, made["secret"], "POST", "/api_keys", {"name": "more", "scopes": ["read", "train"]})
    assert beyond.status_code == 403 and "the scope 'train'" in beyond.json()["error"]["message"]
    same = ask(api, made["secret"], "POST", "/api_keys", {"name": "same"}).json()
    assert same["scopes"] == ["read", "admin"], "it has what the key has that made it"
    assert ask(api, same["secret"], "GET", "/files").is_success
    assert ask(api, same["secret"], "DELETE", "/files/file-x").status_code == 403
    listed = ask(api, whole, "GET", "/api_keys").json()["data"]
    assert [one["scopes"] for one in listed][-1] == list(SCOPES), "a key from before has all"
    unknown = ask(api, whole, "POST", "/api_keys", {"name": "x", "scopes": ["write"]})
    assert unknown.status_code == 400 and "read" in unknown.json()["error"]["message"]


@pytest.mark.parametrize("scopes", [[], ["read"] * 5])
@on_sqlite
def test_a_key_may_something(keyed: Keyed, scopes: list[str]) -> None:
    assert (
        ask(keyed.api, keyed.secrets[0], "POST", "/api_keys", {"name": "x", "scopes": scopes}).status_code
        == 400
    )
