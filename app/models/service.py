"""Which models there are, and what a model's name stands for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from fastapi import Response
from sqlalchemy.orm import Session

from app.checkpoints.naming import (
    HIGH_ENTROPY_SUFFIX,
    BadModelId,
    ModelId,
    base_of,
    in_mode,
    is_fine_tuned,
    model_id,
    organization_of,
    parse_model_id,
)
from app.checkpoints.repository import checkpoint_of
from app.checkpoints.repository import listing as newest_of_job
from app.core.errors import ApiError, BadRequest, NotFound
from app.core.job_status import JobStatus, is_terminal
from app.core.paging import page, unknown_cursor
from app.core.settings import get_settings
from app.core.store.artefacts import base_place, described
from app.core.strict_json import JsonObject
from app.core.tables import Checkpoint, Job
from app.core.validation import one_of
from app.models import repository
from app.models.catalog import HOW_TO_PULL, base_models, base_path, created, has_weights, weights_gone
from app.models.repository import Listed
from app.models.schemas import ModelObject
from trainer.spec.chat_template import chat_template, effort_switch, knows_developer
from trainer.spec.modes import Mode, Placement

_NAMED_IN_ERRORS = 20
#: Checkpoints before the latest that may stand in for it while it is being loaded.
_EARLIER = 3


@dataclass(frozen=True)
class Found:
    """A model that can be served, and how its prompts were made in training.

    ``high_entropy_prompt`` is empty where there is no such mode. ``checkpoint`` is the name of the checkpoint
    whose weights these are, and ``saved_at`` when it was; both None for a base model. ``earlier``: for the
    latest checkpoint of a job that still trains, those before it, newest first.
    """

    shown: ModelObject
    place: str
    """Where its folder is, for all hosts (``app.core.store.artefacts``)."""
    high_entropy_prompt: str
    fingerprint: str | None
    high_entropy_placement: Placement = "system"
    chat_template_kwargs: Mapping[str, object] = field(default_factory=dict)
    knows_developer: bool = False
    """Whether its chat template has a place for the role ``developer``; else that is ``system``."""
    effort_switch: str | None = None
    """The variable of its chat template that says how, or whether, to think."""
    checkpoint: str | None = None
    saved_at: float | None = None
    earlier: "tuple[Found, ...]" = ()
    trace: str | None = None
    """Of the job that trained it (``app.core.tracing``)."""

    @property
    def mode(self) -> Mode:
        return self.shown.mode


def find_model(session: Session, project_id: str, name: str) -> Found:
    """The model called ``name``: a base, a job's result or a checkpoint, perhaps in high-entropy mode.

    The result of a job that still trains, or is paused, is its latest checkpoint. Raises NotFound where there
    is none or its weights are gone, and BadRequest where it lacks the mode.
    """
    if not is_fine_tuned(name):
        return _find_base(session, project_id, name)
    try:
        wanted = parse_model_id(name)
    except BadModelId as error:
        raise _not_found(session, project_id, name, f"{error}.") from None
    checkpoint = checkpoint_of(session, project_id, wanted.stored)
    if checkpoint is not None:
        if not has_weights(checkpoint):
            raise NotFound(weights_gone(name, checkpoint), param="model", code="model_not_found")
        checkpoints = [checkpoint]
    elif not (checkpoints := _of_unfinished(session, project_id, wanted)):
        raise _not_finished(session, project_id, name, wanted)
    if wanted.mode is Mode.HIGH_ENTROPY and not checkpoints[0].high_entropy_prompt:
        raise lacks_high_entropy(name.removesuffix(HIGH_ENTROPY_SUFFIX))
    job = session.get_one(Job, checkpoints[0].job_id)
    latest, *earlier = (_found(wanted, checkpoint, job) for checkpoint in checkpoints)
    return replace(latest, earlier=tuple(earlier))


def _found(name: ModelId, checkpoint: Checkpoint, job: Job) -> Found:
    template = chat_template(described(checkpoint.path)) or ""
    return Found(
        shown=ModelObject.model_validate(_shown(name.stored, name.mode, job.model, checkpoint)),
        place=checkpoint.path,
        high_entropy_prompt=checkpoint.high_entropy_prompt,
        fingerprint=f"fp_{checkpoint.manifest_sha256[:12]}",
        high_entropy_placement=cast(Placement, checkpoint.high_entropy_placement),
        chat_template_kwargs=checkpoint.chat_template_kwargs,
        knows_developer=knows_developer(template),
        effort_switch=effort_switch(template),
        checkpoint=checkpoint.model,
        saved_at=checkpoint.created_at,
        trace=job.traceparent,
    )


def _of_unfinished(session: Session, project_id: str, wanted: ModelId) -> list[Checkpoint]:
    """The checkpoints of the project's own job whose result will be called ``wanted``, the latest first."""
    if wanted.step is not None:
        return []
    for job in repository.jobs_by_part(session, project_id, wanted.job):
        if not is_terminal(job.status) and _name_of(job) == wanted.stored:
            newest = newest_of_job(session, job.id, below_step=None, limit=_EARLIER + 1)
            return [checkpoint for checkpoint in newest if has_weights(checkpoint)]
    return []


def _name_of(job: Job, step: int | None = None) -> str:
    """The name that the job's result has or will have, or with ``step`` one of its checkpoints."""
    return model_id(
        model=job.model,
        organization=get_settings().organization,
        suffix=job.suffix,
        job_id=job.id,
        step=step,
    )


def lacks_high_entropy(name: str) -> BadRequest:
    """The error for the high-entropy mode of a model that was not trained with a prompt for it."""
    return BadRequest(
        f"{name!r} has no high-entropy mode: it was not trained with a prompt that switches the mode on. "
        "Use mode 'normal', or a model made by a policy_split job.",
        param="mode",
        code="mode_not_available",
    )


def list_models(session: Session, project_id: str, after: str | None, limit: int) -> Response:
    """Base models by name, then fine-tuned models, newest first, each id of a checkpoint by itself."""
    shown: list[JsonObject] = []
    start: Checkpoint | None = None
    if after is None or not is_fine_tuned(after):
        shown += [_base(name).model_dump() for name in base_models()]
    else:
        start = _checkpoint_named(session, project_id, after)
    # Of a checkpoint up to four; the first row may have some before ``after``.
    enough = len(shown) + limit + 4
    # Most have two at least.
    for count in (limit // 2 + 4, limit + 2):
        rows = repository.newest_checkpoints(session, project_id, count, start)
        listed = [model for row in rows for model in _ids_of(row)]
        if len(rows) < count or len(shown) + len(listed) > enough:
            break
    shown += listed
    if after is not None:
        ids = [model["id"] for model in shown]
        if after not in ids:
            raise unknown_cursor(after)
        shown = shown[ids.index(after) + 1 :]
    return page(shown[: limit + 1], limit)


def _find_base(session: Session, project_id: str, name: str) -> Found:
    folder = base_path(name)
    if folder is not None:
        template = chat_template(folder) or ""
        return Found(
            shown=_base(name),
            place=base_place(name),
            high_entropy_prompt="",
            fingerprint=None,
            knows_developer=knows_developer(template),
            effort_switch=effort_switch(template),
        )
    without_mode = name.removesuffix(HIGH_ENTROPY_SUFFIX)
    if without_mode != name and base_path(without_mode) is not None:
        raise lacks_high_entropy(without_mode)
    raise _not_found(session, project_id, name, f"The model {name!r} does not exist.")


def _checkpoint_named(session: Session, project_id: str, name: str) -> Checkpoint:
    try:
        wanted = parse_model_id(name)
    except BadModelId:
        raise unknown_cursor(name) from None
    checkpoint = checkpoint_of(session, project_id, wanted.stored)
    if checkpoint is None:
        raise unknown_cursor(name)
    return checkpoint


def _not_finished(session: Session, project_id: str, name: str, wanted: ModelId) -> ApiError:
    """The error for an id without weights: of a job that is not done, a removed checkpoint, or nothing."""
    for job in repository.jobs_by_part(session, project_id, wanted.job):
        if _name_of(job, wanted.step) != wanted.stored:
            continue
        if wanted.step is not None:
            return NotFound(
                f"The job {job.id} ({job.status}) has no checkpoint of step {wanted.step}; GET "
                f"/v1/fine_tuning/jobs/{job.id}/checkpoints lists its checkpoints.",
                param="model",
                code="model_not_found",
            )
        if job.status == JobStatus.SUCCEEDED:
            return NotFound(
                f"The weights of {name!r} are gone: its job {job.id} succeeded but no longer has a "
                "checkpoint.",
                param="model",
                code="model_not_found",
            )
        return NotFound(
            f"The model {name!r} is not finished: its job {job.id} is {job.status}"
            + (f" at step {job.step} of {job.total_steps}." if job.finished_at is None else "."),
            param="model",
            code="model_not_ready",
        )
    return _not_found(session, project_id, name, f"The model {name!r} does not exist.")


def _not_found(session: Session, project_id: str, name: str, what: str) -> NotFound:
    names = base_models() + repository.newest_results(session, project_id, _NAMED_IN_ERRORS)
    return NotFound(
        f"{what} Available: {one_of(names, name)}; GET /v1/models lists all. {HOW_TO_PULL}",
        param="model",
        code="model_not_found",
    )


def _base(name: str) -> ModelObject:
    return ModelObject(
        id=name,
        created=int(created(name)),
        owned_by="system",
        mode=Mode.NORMAL,
        root=name,
        parent=None,
        job=None,
        step=None,
    )


def _ids_of(listed: Listed) -> Iterator[JsonObject]:
    """Every id that leads to the checkpoint."""
    for name in (listed.result_name, listed.model):
        if name is None:
            continue
        yield _shown(name, Mode.NORMAL, listed.job.model, listed)
        if listed.has_high_entropy:
            yield _shown(name, Mode.HIGH_ENTROPY, listed.job.model, listed)


def _shown(stored: str, mode: Mode, parent: str, checkpoint: Checkpoint | Listed) -> JsonObject:
    """A model object; ``parent``: what the checkpoint's job was started from.

    A list has a thousand: they are not checked again.
    """
    return {
        "id": in_mode(stored, mode),
        "object": "model",
        "created": int(checkpoint.created_at),
        "owned_by": organization_of(stored),
        "mode": mode.value,
        "root": base_of(parent),
        "parent": parent,
        "job": checkpoint.job_id,
        "step": checkpoint.step,
    }
