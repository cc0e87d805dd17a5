"""Keys and projects over HTTP: what a caller may see and do.

A project's key manages the keys of its own project. The operator's keys, and whoever asks a service without
keys, see all projects and make them. What a limited key may not have it cannot make either.
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict, Forbidden, KeyRevoked, NotFound
from app.core.paging import unknown_cursor
from app.core.scope_names import SCOPES
from app.core.settings import get_settings
from app.core.tables import Project
from app.keys import repository, service
from app.keys.repository import Caller
from app.keys.schemas import (
    LIMIT_COLUMNS,
    CreateKey,
    CreateProject,
    UpdateProject,
    key_view,
    project_view,
)

#: Who can do it, to be filled with the command.
_OPERATOR = (
    "The operator can: `policysplit {}`, or over HTTP with a key of `policysplit keys create --operator`."
)


def create_key(caller: Caller, request: CreateKey) -> dict[str, object]:
    """A new key, with its secret."""
    with write_session() as session:
        _check_still_known(session, caller)
        project = _project(session, caller, request.project_id)
        if not caller.operator:
            _check_may_make(session, caller, request)
        key, secret = repository.new_key(
            session,
            project.id,
            request.name,
            requests_per_minute=request.requests_per_minute,
            operator=request.operator,
            scopes=_scopes(caller, request),
            created_by=caller.key_id or (caller.email or "")[:64] or None,
        )
        return key_view(key, project, caller, new_secret=secret)


def list_keys(
    caller: Caller, project_id: str | None, *, after: str | None, limit: int
) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 keys of the caller's project, of the one that an operator asks for, or of all."""
    with read_session() as session:
        wanted = None if caller.operator and project_id is None else _project(session, caller, project_id).id
        cursor = None
        if after is not None and (cursor := repository.find_key(session, after, wanted)) is None:
            raise unknown_cursor(after)
        rows = repository.listing(session, wanted, after=cursor, limit=limit + 1)
        return [key_view(key, project, caller) for key, project in rows]


def revoke_key(caller: Caller, key_id: str) -> dict[str, object]:
    """Refuse the key from now on; raises NotFound and Forbidden."""
    with write_session() as session:
        _check_still_known(session, caller)
        key = repository.find_key(session, key_id, None if caller.operator else caller.project_id)
        if key is None:
            raise NotFound(f"No such key: '{key_id}'.", param="key_id")
        if key.operator and not caller.operator:
            raise Forbidden(f"'{key_id}' is an operator's key. {_OPERATOR.format('keys revoke')}")
        repository.revoke(session, key)
        return key_view(key, session.get_one(Project, key.project_id), caller)


def create_project(caller: Caller, request: CreateProject) -> dict[str, object]:
    """A new project; raises Forbidden and Conflict."""
    if not caller.operator:
        raise Forbidden(f"A project's key cannot create projects. {_OPERATOR.format('projects create NAME')}")
    try:
        return project_view(service.create_project(request.name))
    except service.KeyProblem as error:
        text = f"{error}"
        raise Conflict(f"{text[:1].upper()}{text[1:]}.", param="name", code="name_taken") from None


def retrieve_project(caller: Caller, project_id: str) -> dict[str, object]:
    """A project that the caller may know of; raises NotFound."""
    with read_session() as session:
        return project_view(_project(session, caller, project_id))


def update_project(caller: Caller, project_id: str, request: UpdateProject) -> dict[str, object]:
    """Change a project's name, its limits or both, as the operator; raises Forbidden, NotFound, Conflict."""
    if not caller.operator:
        raise Forbidden(
            "A project's key cannot change projects or what they may use. The operator can, with a key of "
            "`policysplit keys create --operator`."
        )
    with write_session() as session:
        project = _project(session, caller, project_id)
        if request.name is not None:
            taken = repository.find_project(session, request.name)
            if taken is not None and taken.id != project.id:
                text = f"The name '{request.name}' is taken by project {taken.id}."
                raise Conflict(text, param="name", code="name_taken")
            project.name = request.name
        if request.limits is not None:
            for name, column in LIMIT_COLUMNS.items():
                setattr(project, column, getattr(request.limits, name))
        view = project_view(project)
        record(session, "project.updated", project.id, project.id, name=project.name, limits=view["limits"])
        return view


def list_projects(caller: Caller, *, after: str | None, limit: int) -> list[dict[str, object]]:
    """Up to ``limit`` + 1 projects: the caller's own, or all."""
    own = None if caller.operator else caller.project_id
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := _seen(session, caller, after)) is None:
            raise unknown_cursor(after)
        return [project_view(one) for one in repository.projects(session, own, after=cursor, limit=limit + 1)]


def seen_of(caller: Caller, project_ids: Sequence[str]) -> Sequence[str]:
    """Which projects to tell of: the caller's own; the operator those that are asked for, none being all.

    Raises NotFound for one of others.
    """
    if caller.operator:
        return project_ids
    for other in project_ids:
        if other != caller.project_id:
            raise NotFound(f"No such project: '{other}'.", param="project_ids")
    return [caller.project_id]


def _seen(session: Session, caller: Caller, project_id: str) -> Project | None:
    """The project with this id, if the caller may know of it."""
    may = caller.operator or project_id == caller.project_id
    return next(iter(repository.projects(session, project_id)), None) if may else None


def _check_still_known(session: Session, caller: Caller) -> None:
    """A key that was revoked a moment ago, which requests are still answered with, leaves no other behind."""
    if caller.key_id is not None:
        own = repository.find_key(session, caller.key_id)
        if own is None or own.revoked_at is not None:
            raise KeyRevoked


def _scopes(caller: Caller, request: CreateKey) -> list[str] | None:
    """What the new key may do: what is asked for, else what the caller's own may. None: everything."""
    wanted = caller.scopes if request.scopes is None else set(request.scopes)
    if beyond := [scope for scope in SCOPES if scope in wanted - caller.scopes]:
        raise Forbidden(
            f"This key does not have the scope {beyond[0]!r}, so it cannot create a key that has it. "
            + _OPERATOR.format("keys create --scope …"),
            param="scopes",
        )
    return None if wanted == set(SCOPES) else [scope for scope in SCOPES if scope in wanted]


def _project(session: Session, caller: Caller, project_id: str | None) -> Project:
    """The project that is asked for, else the caller's own; one of others is not there."""
    if (found := _seen(session, caller, project_id or caller.project_id)) is None:
        raise NotFound(f"No such project: '{project_id}'.", param="project_id")
    return found


def _check_may_make(session: Session, caller: Caller, request: CreateKey) -> None:
    """What the operator has limited does not get round it with more keys, or with better ones."""
    settings = get_settings()
    if request.operator:
        raise Forbidden(
            f"A project's key cannot create an operator's. {_OPERATOR.format('keys create --operator')}",
            param="operator",
        )
    if caller.requests_per_minute is not None:
        raise Forbidden(
            f"This key may send {caller.requests_per_minute} requests per minute, so it cannot create "
            f"others. " + _OPERATOR.format("keys create")
        )
    limit = settings.requests_per_minute
    if limit and (request.requests_per_minute or limit) > limit:
        raise BadRequest(
            f"Invalid value for 'requests_per_minute': {request.requests_per_minute}. A key of this "
            f"service may send {limit}: give 1 to {limit}, or leave it out.",
            param="requests_per_minute",
        )
    repository.lock_project(session, caller.project_id)
    count = repository.live_keys(session, caller.project_id)
    if settings.project_max_keys and count >= settings.project_max_keys:
        raise Forbidden(
            f"The project has {count} keys; its limit is {settings.project_max_keys}. Revoke some first.",
            code="quota_exceeded",
        )
