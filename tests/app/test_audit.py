"""The audit log: who changed what, without secrets. No route is forgotten: tests/app/test_by_index.py."""

import time
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.audit.schemas import AuditEntryObject
from app.core.db import read_session, write_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, AuditEntry
from app.keys.repository import new_key
from app.keys.service import create_key, create_project
from tests.app.test_key_routes import ask, made, refused
from tests.fixtures.api import Keyed, on_sqlite, sums
from tests.fixtures.described import check_described
from worker.retention import expire


def entries(keyed: Keyed, key: str, query: str = "") -> list[dict[str, Any]]:
    answer = ask(keyed.api, "GET", f"/audit_log{query}", key)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_each_change_is_told_with_who_made_it(keyed: Keyed) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    file = api.upload(keyed.owner, sums())
    headers = {"authorization": f"Bearer {mine}", "x-request-id": "mine-7", "x-forwarded-for": "192.0.2.9"}
    body = {"name": "CI", "scopes": ["read"]}
    key = httpx.post(f"{api.url}/v1/api_keys", headers=headers, json=body).json()
    ask(api, "POST", f"/api_keys/{key['id']}/revoke", mine)
    ask(api, "POST", f"/api_keys/{key['id']}/revoke", mine)
    ask(api, "DELETE", f"/files/{file}", mine)
    listing = ask(api, "GET", "/audit_log?limit=4", mine)
    told = listing.json()["data"]
    assert [(one["type"], one["resource_id"]) for one in told] == [
        ("file.deleted", file),
        ("api_key.revoked", key["id"]),
        ("api_key.created", key["id"]),
        ("file.created", file),
    ], "what changes nothing, the second revocation, leaves nothing"
    check_described(AuditEntryObject, httpx.Response(200, json=told[2]).text)
    made_here = told[2]
    assert made_here["request_id"] == "mine-7" and abs(made_here["effective_at"] - time.time()) < 60
    assert made_here["actor"] == {
        "type": "api_key",
        "api_key": {"id": keyed.ids[0]},
        "email": None,
        # As uvicorn tells it: of a proxy on this machine, which is trusted.
        "ip_address": "192.0.2.9",
    }
    assert made_here["details"]["scopes"] == ["read"] and key["secret"] not in listing.text
    rest = entries(keyed, mine, f"?after={told[3]['id']}")
    assert [(one["type"], one["actor"]["type"]) for one in rest] == [("api_key.created", "operator")]


@on_sqlite
def test_filters_and_who_sees_what(keyed: Keyed) -> None:
    mine, theirs = keyed.secrets
    operator = create_key("operator", DEFAULT_PROJECT, operator=True)[1]
    key = made(keyed.api, theirs)["id"]
    assert [one["resource_id"] for one in entries(keyed, theirs, f"?actor_ids={keyed.ids[1]}")] == [key]
    assert {one["project"]["id"] for one in entries(keyed, mine)} == {DEFAULT_PROJECT}
    assert entries(keyed, mine, f"?resource_ids={key}") == []
    refused(
        ask(keyed.api, "GET", f"/audit_log?project_ids={keyed.stranger_project}", mine),
        404,
        "No such project",
    )
    refused(ask(keyed.api, "GET", "/audit_log?event_types=key.made", mine), 400, "api_key.created")
    refused(ask(keyed.api, "GET", "/audit_log?since=yesterday", mine), 400, "since")
    refused(ask(keyed.api, "GET", f"/audit_log?after={entries(keyed, theirs)[0]['id']}", mine), 400, "after")
    seen = entries(keyed, operator, f"?resource_ids={key}&event_types=api_key.created")
    assert [one["project"] for one in seen] == [{"id": keyed.stranger_project, "name": "Strangers"}]
    assert entries(keyed, operator, f"?project_ids={keyed.stranger_project}&event_types=project.created")
    assert entries(keyed, operator, "?until=1") == [] == entries(keyed, operator, "?since=4000000000")


def test_a_change_that_fails_is_not_told(api_environment: Any) -> None:
    """It is written in the change's own transaction."""
    with pytest.raises(RuntimeError), write_session() as session:
        new_key(session, DEFAULT_PROJECT, "x", requests_per_minute=None, operator=False)
        session.flush()
        raise RuntimeError
    with read_session() as session:
        assert session.scalars(select(AuditEntry.id)).all() == []


@on_sqlite
def test_entries_expire(api_environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create_project("one")
    with write_session() as session:
        session.scalars(select(AuditEntry)).one().at -= 40 * 86_400
    create_project("two")
    expire()
    with read_session() as session:
        assert len(session.scalars(select(AuditEntry.id)).all()) == 2, "unless told otherwise they stay"
    monkeypatch.setenv("POLICYSPLIT_RETAIN_AUDIT_DAYS", "30")
    get_settings.cache_clear()
    expire()
    with read_session() as session:
        assert [one.details["name"] for one in session.scalars(select(AuditEntry))] == ["two"]
