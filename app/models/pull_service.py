"""Base models on request: who may fetch them, what is asked before, what goes on in the background."""

import logging
import threading
import time
from contextlib import suppress

from app.core.audit import record
from app.core.db import write_session
from app.core.errors import ApiError, BadRequest, Conflict, Forbidden, NotFound, TooManyRequests
from app.core.settings import get_settings
from app.core.store.published import published
from app.core.strict_json import JsonObject
from app.core.validation import abbreviated
from app.models.catalog import is_name
from app.models.machine import machine
from app.models.offers import machine_view, offered, view
from app.models.pulling import Facts, Pull, PullFailed, Pulls

#: Pulls at a time, of the whole service: the line and the disk are everybody's.
MOST = 2
BEGIN_SECONDS = 10.0
#: Questions to the hub at a time; each is a process.
_asking = threading.BoundedSemaphore(4)
_ERRORS: dict[str, type[ApiError]] = {
    "invalid_value": BadRequest,
    "no_safetensors": BadRequest,
    "model_not_found": NotFound,
    "model_gated": Forbidden,
}
_log = logging.getLogger("app")


def may_pull(project_id: str) -> bool:
    """Whether the project's keys may fetch models, which all projects then have."""
    return project_id in get_settings().model_pull_projects


def available(project_id: str) -> JsonObject:
    """What fits this machine, of models to begin with."""
    return {
        "object": "list",
        "machine": machine_view(machine()),
        "may_pull": may_pull(project_id),
        "data": list(offered()),
    }


def ask(project_id: str, name: str) -> JsonObject:
    """What a model would take; the hub is asked. Raises ApiError."""
    _check_may(project_id)
    return view(_about(name), machine())


def start(project_id: str, name: str) -> JsonObject:
    """Begin to fetch a model, or go on with it. Raises ApiError where that is known not to work."""
    _check_may(project_id)
    facts = _about(name)
    name = facts["name"]
    if facts["there"] and (not get_settings().store or name in published()):
        now = time.time()
        return pull_view(Pull(name, "succeeded", "already there", now, now, about=facts))
    running = [one for one in _pulls().all() if one.status == "running"]
    for one in running:
        if one.name == name:
            return pull_view(one)
    if len(running) >= MOST:
        raise Conflict(
            f"{' and '.join(one.name for one in running)} are being fetched now, and the limit is {MOST} "
            "at a time: try again when one of them has finished. GET /v1/models/pull shows them.",
            param="name",
            code="too_many_pulls",
        )
    with write_session() as session:
        record(session, "model.pull.started", name, project_id)
    begun = threading.Event()
    threading.Thread(target=_fetch, args=(name, facts, begun), name=f"pull-{name}", daemon=True).start()
    begun.wait(BEGIN_SECONDS)
    return retrieve(name)


def cancel(project_id: str, name: str) -> JsonObject:
    """End a model's pull and remove what has come of it. Raises ApiError."""
    _check_may(project_id)
    try:
        state = _pulls().cancel(name)
    except PullFailed as error:
        raise Conflict(f"The pull of {name} cannot be stopped: {error}.", code=error.code) from None
    if state is None:
        raise _not_pulled(name)
    if state.status == "succeeded":
        raise Conflict(
            f"{name} is already here, and nothing is being fetched.", param="name", code="pull_finished"
        )
    with write_session() as session:
        record(session, "model.pull.cancelled", state.name, project_id)
    return pull_view(state)


def listing() -> list[JsonObject]:
    """Pulls, the latest first."""
    return [pull_view(one) for one in _pulls().all()]


def retrieve(name: str) -> JsonObject:
    """The last pull of a model; raises NotFound."""
    if (found := _pulls().find(name)) is None:
        raise _not_pulled(name)
    return pull_view(found)


def _not_pulled(name: str) -> NotFound:
    return NotFound(
        f"There has been no pull of a model called {abbreviated(name)}; POST /v1/models/pull starts one.",
        param="name",
        code="pull_not_found",
    )


def pull_view(state: Pull) -> JsonObject:
    """A pull object."""
    about = state.about or {}
    return {
        "id": state.name,
        "object": "model.pull",
        "status": state.status,
        "stage": state.stage,
        "created_at": int(state.started_at),
        "finished_at": None if state.finished_at is None else int(state.finished_at),
        "done_bytes": state.done_bytes,
        "total_bytes": state.total_bytes,
        "origin": about.get("origin"),
        "license": about.get("license"),
        "note": about.get("note"),
        "error": state.error,
    }


def _pulls() -> Pulls:
    return Pulls(get_settings().models_dir)


def _fetch(name: str, facts: Facts, begun: threading.Event) -> None:
    """In a thread of its own. How it went wrong is in the pull's state; the next call continues it."""
    try:
        with suppress(PullFailed):
            _pulls().pull(name, lambda _facts: begun.set(), known=facts)
    except Exception:
        _log.exception("the pull of %s failed with an internal error", name)
    finally:
        begun.set()


def _about(name: str) -> Facts:
    if not is_name(name):
        raise BadRequest(
            f"Invalid value for 'name': {abbreviated(name)}. Give organisation/name of a repository on "
            "the model hub, or SmolLM2-135M-Instruct, which a Python package also ships.",
            param="name",
        )
    if not _asking.acquire(blocking=False):
        raise TooManyRequests(
            "Too many models are being looked up on the hub; try again in a few seconds.",
            headers={"retry-after": "5"},
        )
    try:
        return _pulls().about(name)
    except PullFailed as error:
        text = f"{error}"
        raise _ERRORS.get(error.code, Conflict)(
            f"{text[:1].upper()}{text[1:]}.", param="name", code=error.code
        ) from None
    finally:
        _asking.release()


def _check_may(project_id: str) -> None:
    if not may_pull(project_id):
        raise Forbidden(
            "This project's keys may not fetch models. The operator can run 'policysplit models pull "
            "NAME', or add the project's id to POLICYSPLIT_MODEL_PULL_PROJECTS.",
        )
