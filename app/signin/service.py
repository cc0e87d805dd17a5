"""Signing in and out: a row, and the cookie that it is found by."""

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, select

from app.core.audit import record
from app.core.db import write_session
from app.core.errors import BadRequest, Unavailable
from app.core.ids import new_sign_in_id
from app.core.sealing import Unreadable, seal, unseal
from app.core.settings import get_settings
from app.core.tables import SignIn
from app.keys.repository import find_project
from app.keys.secret import digest_of
from app.signin.provider import Attempt
from app.signin.rules import rule_for

#: How long somebody may take at the identity provider.
ATTEMPT_SECONDS = 600


def new_attempt() -> tuple[Attempt, str]:
    """An attempt to sign in, and what the browser keeps of it, sealed."""
    attempt = Attempt(*(secrets.token_urlsafe(32) for _ in range(3)))
    return attempt, seal(json.dumps({**vars(attempt), "until": time.time() + ATTEMPT_SECONDS}))


def attempt_of(sealed: str | None, state: str | None) -> Attempt:
    """The attempt that a browser comes back from; raises BadRequest where it is another one, or none."""
    try:
        kept = json.loads(unseal(sealed or "")) if (sealed or "").startswith("sealed:") else {}
    except (Unreadable, ValueError):
        kept = {}
    # As bytes: of texts with other letters than ASCII it raises TypeError.
    same = secrets.compare_digest(kept.get("state", "").encode(), (state or "").encode())
    if kept.get("until", 0) < time.time() or not same:
        raise BadRequest(
            "This sign-in was not started in this browser, or too long ago: start again.",
            code="sign_in_failed",
        )
    return Attempt(kept["state"], kept["nonce"], kept["verifier"])


def sign_in(claims: Mapping[str, Any]) -> str:
    """Let somebody in as the rules say; the secret of the cookie. Raises Forbidden and Unavailable."""
    settings = get_settings()
    rule = rule_for(settings.oidc_rules, claims)
    email, secret, now = str(claims.get("email") or claims["sub"]), secrets.token_urlsafe(32), time.time()
    with write_session() as session:
        if (project := find_project(session, rule.project)) is None:
            raise Unavailable(
                f"The rule for {email} names the project '{rule.project}', which does not exist. The "
                "operator can correct POLICYSPLIT_OIDC_RULES.",
                code="sign_in_failed",
            )
        session.execute(delete(SignIn).where(SignIn.expires_at < now))
        row = SignIn(
            id=new_sign_in_id(),
            sha256=digest_of(secret),
            project_id=project.id,
            email=email[:320],
            scopes=" ".join(rule.scopes),
            operator=rule.operator,
            created_at=now,
            expires_at=now + settings.oidc_session_hours * 3600,
        )
        session.add(row)
        record(session, "login.succeeded", row.id, project.id, email=row.email)
    return secret


def sign_out(secret: str | None) -> None:
    """The cookie opens nothing any more."""
    if secret is None:
        return
    with write_session() as session:
        row = session.scalars(select(SignIn).where(SignIn.sha256 == digest_of(secret))).first()
        if row is not None:
            session.delete(row)
            record(session, "logout.succeeded", row.id, row.project_id, email=row.email)
