"""Keys and projects over HTTP: who may see and make which, and that a secret is said once."""

import logging
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.core.db import read_session
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT, ApiKey
from app.keys.schemas import KeyObject, KeyWithSecret, ProjectObject
from app.keys.service import create_key, revoke_key
from app.keys.uses import WRITE_SECONDS
from tests.fixtures.api import Api, Keyed, forget, on_sqlite, until_status
from tests.fixtures.described import check_described


def ask(api: Api, method: str, path: str, key: str | None = None, body: Any = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.request(method, f"{api.url}/v1{path}", headers=headers, json=body)


def made(api: Api, key: str | None = None, **body: Any) -> dict[str, Any]:
    answer = ask(api, "POST", "/api_keys", key, {"name": "made"} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(api: Api, key: str | None, query: str = "") -> list[str]:
    answer = ask(api, "GET", f"/api_keys{query}", key)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    for word in words:
        assert word in answer.json()["error"]["message"]


@pytest.fixture
def operator(keyed: Keyed) -> str:
    """The secret of a key of the operator's."""
    return create_key("operator", DEFAULT_PROJECT, operator=True)[1]


def test_a_key_of_a_project_makes_and_revokes_keys_of_it(keyed: Keyed) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    answer = ask(api, "POST", "/api_keys", mine, {"name": "CI"})
    check_described(KeyWithSecret, answer.text)
    assert answer.headers["cache-control"] == "no-store"
    key = answer.json()
    assert (key["project_id"], key["created_by"], key["operator"]) == (DEFAULT_PROJECT, keyed.ids[0], False)
    assert key["secret"].endswith(key["hint"][-4:]) and len(key["secret"]) == 46
    assert httpx.get(
        f"{api.url}/v1/files", headers={"authorization": f"Bearer {key['secret']}"}
    ).is_success, "it works at once"

    listing = ask(api, "GET", "/api_keys", mine)
    assert [one["id"] for one in listing.json()["data"]] == [key["id"], keyed.ids[0]], "and no one else's"
    assert [one["current"] for one in listing.json()["data"]] == [False, True]
    assert key["secret"] not in listing.text
    for one in listing.json()["data"]:
        KeyObject.model_validate(one, strict=True)

    gone = ask(api, "POST", f"/api_keys/{key['id']}/revoke", mine)
    check_described(KeyObject, gone.text)
    again = ask(api, "POST", f"/api_keys/{key['id']}/revoke", mine).json()
    assert abs(gone.json()["revoked_at"] - time.time()) < 60
    assert again["revoked_at"] == gone.json()["revoked_at"]
    until_status(api, 401, key["secret"])
    assert listed(api, mine) == [key["id"], keyed.ids[0]], "what was revoked is still told of"


def test_a_list_of_keys_has_pages(keyed: Keyed, operator: str) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    ids = [made(api, mine)["id"] for _ in range(3)]
    first = ask(api, "GET", "/api_keys?limit=2", mine).json()
    assert [one["id"] for one in first["data"]] == [ids[2], ids[1]] and first["has_more"]
    assert listed(api, mine, f"?limit=2&after={ids[1]}")[0] == ids[0]
    refused(ask(api, "GET", "/api_keys?after=key_x", mine), 400, "'key_x'")
    projects = ask(api, "GET", "/projects?limit=1", operator).json()
    assert [one["id"] for one in projects["data"]] == [DEFAULT_PROJECT] and projects["has_more"]
    rest = ask(api, "GET", f"/projects?after={DEFAULT_PROJECT}", operator).json()["data"]
    assert [one["id"] for one in rest] == [keyed.stranger_project]
    refused(ask(api, "GET", f"/projects?after={DEFAULT_PROJECT}", keyed.secrets[1]), 400, DEFAULT_PROJECT)


@on_sqlite
def test_other_projects_and_their_keys_are_not_there(keyed: Keyed) -> None:
    api, theirs = keyed.api, keyed.secrets[1]
    assert listed(api, theirs) == [keyed.ids[1]]
    projects = ask(api, "GET", "/projects", theirs).json()["data"]
    assert [one["id"] for one in projects] == [keyed.stranger_project]
    for nobody in (DEFAULT_PROJECT, "proj_x", "proj_deleted"):
        refused(
            ask(api, "POST", "/api_keys", theirs, {"name": "in", "project_id": nobody}),
            404,
            f"No such project: '{nobody}'",
        )
        refused(ask(api, "GET", f"/api_keys?project_id={nobody}", theirs), 404, "No such project")
    refused(ask(api, "POST", f"/api_keys/{keyed.ids[0]}/revoke", theirs), 404, "No such key")
    refused(ask(api, "POST", "/projects", theirs, {"name": "Mine"}), 403, "policysplit projects create")
    (untouched,) = ask(api, "GET", "/api_keys", keyed.secrets[0]).json()["data"]
    assert (untouched["id"], untouched["revoked_at"]) == (keyed.ids[0], None)


@on_sqlite
def test_a_key_does_not_make_more_than_it_is(keyed: Keyed, operator: str) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    body = {"name": "more", "operator": True}
    refused(ask(api, "POST", "/api_keys", mine, body), 403, "policysplit keys create --operator")
    their = made(api, operator, operator=True)["id"]
    refused(ask(api, "POST", f"/api_keys/{their}/revoke", mine), 403, "an operator's key")
    # A limit of its own would be none, if it made others without.
    slow = create_key("slow", DEFAULT_PROJECT, requests_per_minute=60)[1]
    refused(ask(api, "POST", "/api_keys", slow, {"name": "fast"}), 403, "60 requests per minute")
    assert listed(api, slow), "it sees them all the same"


@on_sqlite
def test_a_key_that_was_just_revoked_makes_no_other(keyed: Keyed) -> None:
    """Also in the seconds in which it is still answered."""
    api, mine = keyed.api, keyed.secrets[0]
    assert listed(api, mine)
    revoke_key(keyed.ids[0])
    refused(ask(api, "POST", "/api_keys", mine, {"name": "to stay"}), 401, "revoked")
    refused(ask(api, "POST", f"/api_keys/{keyed.ids[0]}/revoke", mine), 401, "revoked")
    with read_session() as session:
        assert len(session.scalars(select(ApiKey.id)).all()) == 2


@on_sqlite
def test_what_the_operator_limits_holds_for_new_keys(
    keyed: Keyed, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    monkeypatch.setenv("POLICYSPLIT_REQUESTS_PER_MINUTE", "1000")
    monkeypatch.setenv("POLICYSPLIT_PROJECT_MAX_KEYS", "4")
    get_settings.cache_clear()
    faster = {"name": "fast", "requests_per_minute": 1001}
    refused(ask(api, "POST", "/api_keys", mine, faster), 400, "'requests_per_minute': 1001", "1 to 1000")
    slower = made(api, mine, requests_per_minute=1000)
    assert slower["requests_per_minute"] == 1000
    last = made(api, mine)["id"]
    refused(ask(api, "POST", "/api_keys", mine, {"name": "fifth"}), 403, "4 keys", "Revoke some first")
    ask(api, "POST", f"/api_keys/{last}/revoke", mine)
    made(api, mine)
    assert made(api, operator, requests_per_minute=1001)["id"], "the operator's are not limited"


def test_the_operator_sees_and_makes_projects_and_the_keys_of_all(keyed: Keyed, operator: str) -> None:
    api = keyed.api
    answer = ask(api, "POST", "/projects", operator, {"name": "Research"})
    check_described(ProjectObject, answer.text)
    project = answer.json()["id"]
    refused(ask(api, "POST", "/projects", operator, {"name": "Research"}), 409, "taken by project " + project)
    known = [one["name"] for one in ask(api, "GET", "/projects", operator).json()["data"]]
    assert known == ["Default", "Strangers", "Research"]
    key = made(api, operator, project_id=project)
    assert ask(api, "GET", "/storage", key["secret"]).json()["project_id"] == project
    assert set(keyed.ids) | {key["id"]} < set(listed(api, operator))
    assert listed(api, operator, f"?project_id={project}") == [key["id"]]
    assert ask(api, "POST", f"/api_keys/{keyed.ids[1]}/revoke", operator).is_success
    until_status(api, 401, keyed.secrets[1])
    refused(ask(api, "POST", "/api_keys", operator, {"name": "x", "project_id": "proj_x"}), 404, "proj_x")


@on_sqlite
@pytest.mark.parametrize("name", ["", " ", "a\nb", "\u202eb", "x" * 257])
def test_names_can_be_read(keyed: Keyed, operator: str, name: str) -> None:
    for path in ("/api_keys", "/projects"):
        answer = ask(keyed.api, "POST", path, operator, {"name": name})
        refused(answer, 400)
        assert answer.json()["error"]["param"] == "name"


def test_the_first_key_ends_keyless_use_and_works_at_once(api: Api) -> None:
    """Who is on the machine is the operator; a key that was just made is never taken for none."""
    assert ask(api, "GET", "/models").is_success
    project = ask(api, "POST", "/projects", None, {"name": "Team"}).json()["id"]
    key = made(api, project_id=project)
    assert (key["created_by"], key["current"]) == (None, False)
    assert ask(api, "GET", "/storage", key["secret"]).json()["project_id"] == project
    refused(ask(api, "GET", "/models"), 401, "No key was given")


@on_sqlite
def test_when_a_key_was_used_is_told(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    api, mine = keyed.api, keyed.secrets[0]
    other = made(api, mine)
    deadline, used = time.monotonic() + 3 * WRITE_SECONDS, {}
    # It is written down now and then: there is no event to wait for.
    while not used.get(keyed.ids[0]) and time.monotonic() < deadline:
        used = {one["id"]: one["last_used_at"] for one in ask(api, "GET", "/api_keys", mine).json()["data"]}
        time.sleep(0.05)
    assert abs(used[keyed.ids[0]] - time.time()) < 60
    assert used[other["id"]] is None


@on_sqlite
def test_a_secret_that_is_made_is_nowhere_else(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = made(keyed.api, keyed.secrets[0])["secret"]
    assert secret not in caplog.text
    forget()
    stored = b"".join(path.read_bytes() for path in keyed.api.folder.parent.glob("test.db*"))
    with read_session() as session:
        hashes = session.scalars(select(ApiKey.sha256)).all()
    assert len(hashes) == 3 and all(one.encode() in stored for one in hashes)
    assert secret[3:].encode() not in stored
