"""Secrets in the database are of no use without the key beside it, and outlive a change of that key."""

import json
from typing import Any

import openai
import pytest
from alembic import command
from cryptography.fernet import Fernet
from sqlalchemy import text

from app.core.db import build_engine, read_session
from app.core.migrate import alembic_config, upgrade_to_head
from app.core.sealing import Unreadable, unseal
from app.core.tables import WebhookEndpoint
from app.webhooks.service import seal_secrets_anew
from tests.fixtures.api import Api, forget, on_sqlite


def stored() -> list[str]:
    with read_session() as session:
        return [row.secret for row in session.query(WebhookEndpoint)]


def make(client: openai.OpenAI) -> str:
    """An endpoint; its secret, as it is shown once."""
    kinds: Any = ["fine_tuning.job.succeeded"]
    made = client.webhooks.create(name="x", url="https://nowhere.invalid/", event_types=kinds)
    return str(made.signing_secret)


@on_sqlite
def test_the_database_alone_does_not_tell_a_secret(client: openai.OpenAI, api: Api):
    secret = make(client)
    (found,) = stored()
    assert secret not in found and unseal(found) == secret
    files = [path.read_bytes() for path in api.folder.parent.glob("test.db*")]
    assert files and not [content for content in files if secret.removeprefix("whsec_").encode() in content]
    key = api.folder / "secrets" / "sealing-key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (shown,) = client.webhooks.list().data
    assert str(shown.signing_secret_hint).endswith(secret[-5:])


@on_sqlite
def test_keys_are_changed(client: openai.OpenAI, api: Api, monkeypatch: pytest.MonkeyPatch):
    secret = make(client)
    first, second = (Fernet.generate_key().decode() for _ in range(2))
    old = (api.folder / "secrets" / "sealing-key").read_text()

    def with_keys(*keys: str) -> None:
        monkeypatch.setenv("POLICYSPLIT_SEALING_KEYS", json.dumps(keys))
        forget()

    with_keys(first, old)
    assert seal_secrets_anew() == 1
    assert seal_secrets_anew() == 0, "it is done once"
    with_keys(first)
    assert [unseal(one) for one in stored()] == [secret]
    with_keys(second)
    with pytest.raises(Unreadable):
        unseal(stored()[0])
    assert seal_secrets_anew() == 0, "what cannot be read is left for the key that can"
    assert client.webhooks.list().data[0].signing_secret_hint == "whsec_…?????"
    with pytest.raises(openai.BadRequestError, match="cannot be read"):
        client.webhooks.test(client.webhooks.list().data[0].id, event_type="fine_tuning.job.succeeded")
    with_keys(first)


def test_secrets_of_before_are_sealed_and_opened_again(empty_database_url: str):
    url = empty_database_url
    command.upgrade(alembic_config(url), "0011")
    engine = build_engine(url)
    row = {"id": "webhook_1", "secret": "whsec_plain", "previous_secret": None}
    try:
        with engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO webhook_endpoints (id, project_id, created_at, updated_at, name, url, "
                    "event_types, secret, previous_secret) VALUES (:id, 'proj_default', 1, 1, 'x', "
                    "'https://x', '[]', :secret, :previous_secret)"
                ),
                row,
            )
        upgrade_to_head(url)
        with engine.connect() as connection:
            sealed = connection.execute(text("SELECT secret FROM webhook_endpoints")).scalar_one()
        assert sealed != "whsec_plain" and unseal(sealed) == "whsec_plain"
        command.downgrade(alembic_config(url), "0011")
        with engine.connect() as connection:
            opened = connection.execute(text("SELECT secret FROM webhook_endpoints")).scalar_one()
        assert opened == "whsec_plain"
    finally:
        engine.dispose()
