"""What the operator does with keys and projects on the machine itself. Over HTTP: ``app.keys.access``."""

import time
from collections.abc import Sequence

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.ids import new_project_id
from app.core.settings import get_settings
from app.core.tables import ApiKey, Project
from app.core.validation import abbreviated, one_of
from app.keys import repository

_MAX_NAME = 256


class KeyProblem(ValueError):
    """What was asked for cannot be done; the message is for the operator."""


def create_key(
    name: str,
    project: str,
    requests_per_minute: int | None = None,
    *,
    operator: bool = False,
    scopes: Sequence[str] | None = None,
) -> tuple[ApiKey, str]:
    """A new key of ``project`` (an id or a name), and its secret, which is nowhere else.

    ``scopes``: what it may do; None: everything. Raises KeyProblem.
    """
    check_name(name)
    with write_session() as session:
        owner = repository.find_project(session, project)
        if owner is None:
            known = one_of([one.name for one in repository.projects(session)], project)
            raise KeyProblem(
                f"there is no project {abbreviated(project)}; there are: {known}. `policysplit projects "
                "create` creates one"
            )
        return repository.new_key(
            session,
            owner.id,
            name,
            requests_per_minute=requests_per_minute,
            operator=operator,
            scopes=scopes,
        )


def list_keys() -> Sequence[tuple[ApiKey, Project]]:
    """All keys with their projects, newest first."""
    with read_session() as session:
        return repository.listing(session)


def revoke_key(key_id: str) -> ApiKey:
    """From seconds after this on, the key is refused. Raises KeyProblem."""
    with write_session() as session:
        key = repository.find_key(session, key_id)
        if key is None:
            raise KeyProblem(f"there is no key {abbreviated(key_id)}; `policysplit keys list` shows all")
        repository.revoke(session, key)
    return key


def create_project(name: str) -> Project:
    """A new project; raises KeyProblem for a name that is taken."""
    check_name(name)
    with write_session() as session:
        if (taken := repository.find_project(session, name)) is not None:
            raise KeyProblem(f"the name {abbreviated(name)} is taken by project {taken.id}")
        project = Project(id=new_project_id(), name=name, created_at=time.time())
        session.add(project)
        session.flush()
        record(session, "project.created", project.id, project.id, name=name)
    return project


def list_projects(project_id: str | None = None) -> Sequence[Project]:
    """All projects, the oldest first, or the one with this id."""
    with read_session() as session:
        return repository.projects(session, project_id)


def has_keys() -> bool:
    """Whether a key was ever made: from then on the service answers nobody without one."""
    with read_session() as session:
        return repository.any_key(session)


def is_keyless() -> bool:
    """Whether this machine is answered without a key: none was ever made, and nobody signs in either."""
    return not get_settings().oidc_issuer and not has_keys()


def is_operators(digest: str) -> bool:
    """Whether the key with this digest is an operator's that may read, and was not revoked."""
    with read_session() as session:
        caller = repository.caller(session, digest)
    return caller is not None and caller.operator and "read" in caller.scopes


def check_name(name: str) -> str:
    """``name``; raises KeyProblem for one that nobody could read in a list."""
    if not 0 < len(name.strip()) <= _MAX_NAME or not name.isprintable():
        raise KeyProblem(
            f"the name {abbreviated(name)} cannot be used: give 1 to {_MAX_NAME} printable characters"
        )
    return name
