"""Rows of keys and projects. A key's row is never deleted: a service that had a key once is not keyless."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.ids import new_key_id
from app.core.quick_reads import QuickReads
from app.core.scope_names import SCOPES
from app.core.tables import DELETED_PROJECT, ApiKey, Project
from app.keys.secret import digest_of, hint_of, new_secret


@dataclass(frozen=True)
class Caller:
    """Who sent a request. ``key_id`` is None where the service has no keys.

    ``operator``: whether projects and the keys of all are the caller's affair.
    """

    project_id: str
    key_id: str | None = None
    requests_per_minute: int | None = None
    operator: bool = False
    scopes: frozenset[str] = frozenset(SCOPES)
    project_requests_per_minute: int | None = None
    email: str | None = None
    """Of somebody who signed in, without a key."""


_CALLER = (
    select(
        ApiKey.project_id,
        ApiKey.id,
        ApiKey.requests_per_minute,
        ApiKey.operator,
        ApiKey.scopes,
        Project.requests_per_minute,
    )
    .join(Project)
    .where(ApiKey.sha256 == bindparam("digest"), ApiKey.revoked_at.is_(None))
)
_ANY_KEY: Select[Any] = select(ApiKey.id).limit(1)


async def caller_with(reads: QuickReads, digest: str) -> Caller | None:
    """Whose key has this digest, unless it was revoked."""
    rows = await reads.rows(_CALLER, digest=digest)
    return _caller_of(rows[0]) if rows else None


def caller(session: Session, digest: str) -> Caller | None:
    """Likewise."""
    row = session.execute(_CALLER, {"digest": digest}).one_or_none()
    return None if row is None else _caller_of(row)


def _caller_of(row: Sequence[Any]) -> Caller:
    project, key, limit, operator, scopes, shared = row
    return Caller(project, key, limit, bool(operator), frozenset(scopes_held(scopes)), shared)


def scopes_held(stored: str | None) -> list[str]:
    """What a key may do, in the usual order."""
    return [scope for scope in SCOPES if stored is None or scope in stored.split()]


async def any_key_quickly(reads: QuickReads) -> bool:
    """Whether a key was ever made."""
    return bool(await reads.rows(_ANY_KEY))


def any_key(session: Session) -> bool:
    """Likewise."""
    return session.scalar(_ANY_KEY) is not None


def new_key(
    session: Session,
    project_id: str,
    name: str,
    *,
    requests_per_minute: int | None,
    operator: bool,
    scopes: Sequence[str] | None = None,
    created_by: str | None = None,
) -> tuple[ApiKey, str]:
    """A key's row, and its secret, which is nowhere else. ``scopes``: None is all that there are."""
    secret = new_secret()
    key = ApiKey(
        id=new_key_id(),
        project_id=project_id,
        name=name,
        sha256=digest_of(secret),
        hint=hint_of(secret),
        created_at=time.time(),
        requests_per_minute=requests_per_minute,
        operator=operator,
        scopes=None if scopes is None else " ".join(scopes),
        created_by=created_by,
    )
    session.add(key)
    record(
        session,
        "api_key.created",
        key.id,
        project_id,
        name=name,
        scopes=scopes_held(key.scopes),
        operator=operator,
        requests_per_minute=requests_per_minute,
    )
    return key, secret


def find_key(session: Session, key_id: str, project_id: str | None = None) -> ApiKey | None:
    """The key with this id, of this project or of any."""
    query = select(ApiKey).where(ApiKey.id == key_id)
    return session.scalars(
        query if project_id is None else query.where(ApiKey.project_id == project_id)
    ).first()


def listing(
    session: Session,
    project_id: str | None = None,
    *,
    after: ApiKey | None = None,
    limit: int | None = None,
) -> Sequence[tuple[ApiKey, Project]]:
    """Keys that follow ``after``, of one project or of all, with their projects, newest first."""
    order = (ApiKey.created_at, ApiKey.id)
    query = select(ApiKey, Project).join(Project)
    if project_id is not None:
        query = query.where(ApiKey.project_id == project_id)
    if after is not None:
        query = query.where(tuple_(*order) < tuple_(after.created_at, after.id))
    query = query.order_by(*(one.desc() for one in order)).limit(limit)
    return [(key, project) for key, project in session.execute(query)]


def lock_project(session: Session, project_id: str) -> None:
    """Until the transaction ends nobody else makes a key of the project."""
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))


def live_keys(session: Session, project_id: str) -> int:
    """How many keys of a project are not revoked."""
    query = select(func.count()).where(ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None))
    return session.scalar(query) or 0


def revoke(session: Session, key: ApiKey) -> None:
    """Refuse the key from now on."""
    if key.revoked_at is None:
        key.revoked_at = time.time()
        record(session, "api_key.revoked", key.id, key.project_id, name=key.name)


def note_use(session: Session, used: Mapping[str, float]) -> None:
    """Write down when keys, by their ids, were used.

    In one order, so that no two processes wait for each other.
    """
    for key_id, at in sorted(used.items()):
        session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < at))
            .values(last_used_at=at)
        )


def projects(
    session: Session,
    project_id: str | None = None,
    *,
    after: Project | None = None,
    limit: int | None = None,
) -> Sequence[Project]:
    """Projects that follow ``after``, or the one with this id, the oldest first."""
    order = (Project.created_at, Project.id)
    query = select(Project).where(Project.id != DELETED_PROJECT)
    if project_id is not None:
        query = query.where(Project.id == project_id)
    if after is not None:
        query = query.where(tuple_(*order) > tuple_(after.created_at, after.id))
    return session.scalars(query.order_by(*order).limit(limit)).all()


def find_project(session: Session, id_or_name: str) -> Project | None:
    """The project with this id, or else with this name."""
    seen = select(Project).where(Project.id != DELETED_PROJECT)
    found = session.scalars(seen.where(Project.id == id_or_name)).first()
    return found or session.scalars(seen.where(Project.name == id_or_name)).first()
