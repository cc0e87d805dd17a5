"""Rows of keys and projects. A key's row is never deleted: a service that had a key once is not keyless."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from app.core.quick_reads import QuickReads
from app.core.tables import DELETED_PROJECT, ApiKey, Project


@dataclass(frozen=True)
class Caller:
    """Who sent a request. ``key_id`` is None where the service has no keys."""

    project_id: str
    key_id: str | None = None
    requests_per_minute: int | None = None


_CALLER = select(ApiKey.project_id, ApiKey.id, ApiKey.requests_per_minute).where(
    ApiKey.sha256 == bindparam("digest"), ApiKey.revoked_at.is_(None)
)
_ANY_KEY: Select[Any] = select(ApiKey.id).limit(1)


async def caller_with(reads: QuickReads, digest: str) -> Caller | None:
    """Whose key has this digest, unless it was revoked."""
    rows = await reads.rows(_CALLER, digest=digest)
    return Caller(*rows[0]) if rows else None


async def any_key_quickly(reads: QuickReads) -> bool:
    """Whether a key was ever made."""
    return bool(await reads.rows(_ANY_KEY))


def any_key(session: Session) -> bool:
    """Likewise."""
    return session.scalar(_ANY_KEY) is not None


def listing(session: Session) -> Sequence[tuple[ApiKey, Project]]:
    """All keys with their projects, newest first."""
    query = select(ApiKey, Project).join(Project).order_by(ApiKey.created_at.desc(), ApiKey.id)
    return [(key, project) for key, project in session.execute(query)]


def projects(session: Session) -> Sequence[Project]:
    seen = select(Project).where(Project.id != DELETED_PROJECT)
    return session.scalars(seen.order_by(Project.created_at, Project.id)).all()


def find_project(session: Session, id_or_name: str) -> Project | None:
    """The project with this id, or else with this name."""
    seen = select(Project).where(Project.id != DELETED_PROJECT)
    found = session.scalars(seen.where(Project.id == id_or_name)).first()
    return found or session.scalars(seen.where(Project.name == id_or_name)).first()
