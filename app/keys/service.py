"""What an operator does with keys and projects. The database is the way in: there is no route for it."""

import time
from collections.abc import Sequence

from app.core.db import read_session, write_session
from app.core.ids import new_key_id, new_project_id
from app.core.tables import ApiKey, Project
from app.core.validation import abbreviated, one_of
from app.keys import repository
from app.keys.secret import digest_of, hint_of, new_secret

_MAX_NAME = 256


class KeyProblem(ValueError):
    """What was asked for cannot be done; the message is for the operator."""


def create_key(name: str, project: str, requests_per_minute: int | None = None) -> tuple[ApiKey, str]:
    """A new key of ``project`` (an id or a name), and its secret, which is nowhere else.

    Raises KeyProblem.
    """
    _check_name(name)
    secret = new_secret()
    with write_session() as session:
        owner = repository.find_project(session, project)
        if owner is None:
            known = one_of([one.name for one in repository.projects(session)], project)
            raise KeyProblem(
                f"there is no project {abbreviated(project)}; there are: {known}. "
                "`policysplit projects create` makes one"
            )
        key = ApiKey(
            id=new_key_id(),
            project_id=owner.id,
            name=name,
            sha256=digest_of(secret),
            hint=hint_of(secret),
            created_at=time.time(),
            requests_per_minute=requests_per_minute,
        )
        session.add(key)
    return key, secret


def list_keys() -> Sequence[tuple[ApiKey, Project]]:
    """All keys with their projects, newest first."""
    with read_session() as session:
        return repository.listing(session)


def revoke_key(key_id: str) -> ApiKey:
    """From seconds after this on, the key is refused. Raises KeyProblem."""
    with write_session() as session:
        key = session.get(ApiKey, key_id)
        if key is None:
            raise KeyProblem(f"there is no key {abbreviated(key_id)}; `policysplit keys list` shows all")
        if key.revoked_at is None:
            key.revoked_at = time.time()
    return key


def create_project(name: str) -> Project:
    """A new project; raises KeyProblem for a name that is taken."""
    _check_name(name)
    with write_session() as session:
        if (taken := repository.find_project(session, name)) is not None:
            raise KeyProblem(f"the name {abbreviated(name)} is taken by project {taken.id}")
        project = Project(id=new_project_id(), name=name, created_at=time.time())
        session.add(project)
    return project


def list_projects() -> Sequence[Project]:
    """All projects, the oldest first."""
    with read_session() as session:
        return repository.projects(session)


def has_keys() -> bool:
    """Whether a key was ever made: from then on the service answers nobody without one."""
    with read_session() as session:
        return repository.any_key(session)


def _check_name(name: str) -> None:
    if not 0 < len(name.strip()) <= _MAX_NAME or not name.isprintable():
        raise KeyProblem(
            f"the name {abbreviated(name)} cannot be used: give 1 to {_MAX_NAME} printable characters"
        )
