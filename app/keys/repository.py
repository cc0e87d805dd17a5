"""Rows of keys and projects. A key's row is never deleted: a service that had a key once is not keyless."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import ApiKey, Project


@dataclass(frozen=True)
class Caller:
    """Who sent a request. ``key_id`` is None where the service has no keys."""

    project_id: str
    key_id: str | None = None
    requests_per_minute: int | None = None


def caller_with(session: Session, digest: str) -> Caller | None:
    """Whose key has this digest, unless it was revoked."""
    query = select(ApiKey.project_id, ApiKey.id, ApiKey.requests_per_minute).where(
        ApiKey.sha256 == digest, ApiKey.revoked_at.is_(None)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else Caller(*row)


def any_key(session: Session) -> bool:
    """Whether a key was ever made."""
    return session.scalar(select(ApiKey.id).limit(1)) is not None


def listing(session: Session) -> Sequence[tuple[ApiKey, Project]]:
    """All keys with their projects, newest first."""
    query = select(ApiKey, Project).join(Project).order_by(ApiKey.created_at.desc(), ApiKey.id)
    return [(key, project) for key, project in session.execute(query)]


def projects(session: Session) -> Sequence[Project]:
    return session.scalars(select(Project).order_by(Project.created_at, Project.id)).all()


def find_project(session: Session, id_or_name: str) -> Project | None:
    """The project with this id, or else with this name."""
    found = session.get(Project, id_or_name)
    return found or session.scalars(select(Project).where(Project.name == id_or_name)).first()
