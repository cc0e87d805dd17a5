"""Which models there are: base models in the models folder, checkpoints of jobs in the database."""

import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.checkpoints.naming import BadModelId, is_fine_tuned, parse_model_id
from app.checkpoints.repository import checkpoint_of
from app.core.errors import BadRequest
from app.core.settings import get_settings
from app.core.store.artefacts import base_place, described, is_stored
from app.core.store.published import published
from app.core.tables import Checkpoint, Job
from app.core.validation import abbreviated, one_of
from trainer.spec.modes import Mode

# No file system takes a longer name of a folder than 255 characters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}(/[A-Za-z0-9][A-Za-z0-9._-]{0,254})?")

#: What an encoder's folder has beside a model's files.
_ENCODER = "modules.json"
#: Where a base model that is missed may come from.
HOW_TO_PULL = "'policysplit models pull NAME' fetches a base model, as does POST /v1/models/pull."


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model are."""

    place: str
    """For all hosts (``app.core.store.artefacts``)."""
    checkpoint: Checkpoint | None = None

    @property
    def path(self) -> Path:
        """The folder on this host, with all but the weights at least. Raises StoreError."""
        return described(self.place)


def is_name(name: str) -> bool:
    """Whether a base model can be called so: ``NAME`` or ``OWNER/NAME``."""
    return _NAME.fullmatch(name) is not None


def base_models() -> list[str]:
    """Names of the base models: folders with a ``config.json``, ``NAME`` or ``OWNER/NAME``, of this host and
    those in the store."""
    return [name for name, is_encoder in _all().items() if not is_encoder]


def encoders() -> list[str]:
    """Names of the encoders of text: such folders that hold a sentence-transformers model."""
    return [name for name, is_encoder in _all().items() if is_encoder]


def _all() -> dict[str, bool]:
    """Whether each is an encoder."""
    found = {name: _ENCODER in one.files for name, one in published().items()}
    found |= {name: _is_encoder(get_settings().models_dir / name) for name in own_models()}
    return dict(sorted(found.items()))


def own_models() -> list[str]:
    """Names of the base models and encoders in this host's own folder."""
    folder = get_settings().models_dir
    found = {path.parent for path in folder.glob("*/config.json")}
    # A folder inside a model's own is a part of it.
    found |= {path.parent for path in folder.glob("*/*/config.json") if path.parent.parent not in found}
    names = (path.relative_to(folder).as_posix() for path in found)
    return sorted(name for name in names if is_name(name))


def created(name: str) -> float:
    """When a base model came, unix seconds."""
    config = get_settings().models_dir / name / "config.json"
    return config.stat().st_mtime if config.is_file() else published()[name].at


def base_path(name: str) -> Path | None:
    """The folder of a base model on this host, with all but the weights at least, or None.

    Raises StoreError where it would have to be fetched and the store is away.
    """
    path = _path(name)
    return None if path is None or _is_encoder(path) else path


def encoder_path(name: str) -> Path | None:
    """The folder of an encoder, likewise."""
    path = _path(name)
    return path if path is not None and _is_encoder(path) else None


def _path(name: str) -> Path | None:
    if not is_name(name):
        return None
    path = get_settings().models_dir / name
    if is_model(path):
        return path
    return described(base_place(name)) if name in published() else None


def _is_encoder(path: Path) -> bool:
    return (path / _ENCODER).is_file()


def has_weights(checkpoint: Checkpoint) -> bool:
    """Whether its folder is there: retention, a trainer that keeps the best, or somebody may have removed it
    while the row is still there."""
    return is_stored(checkpoint.path) or is_model(Path(checkpoint.path))


def is_model(folder: Path) -> bool:
    """Whether there is a model in ``folder``."""
    return (folder / "config.json").is_file()


def weights_gone(name: str, checkpoint: Checkpoint) -> str:
    """What to tell whoever asks for a checkpoint without its folder."""
    return (
        f"The weights of {abbreviated(name)} are gone: step {checkpoint.step} of the job "
        f"{checkpoint.job_id} has been removed from the disk. GET "
        f"/v1/fine_tuning/jobs/{checkpoint.job_id}/checkpoints lists the job's checkpoints."
    )


def weights_to_train(session: Session, project_id: str, name: str) -> Weights:
    """The weights that a job may start from; raises BadRequest naming the models that there are."""
    if not is_fine_tuned(name):
        if base_path(name) is None:
            raise _unknown(session, project_id, name)
        return Weights(base_place(name))
    try:
        parsed = parse_model_id(name)
    except BadModelId as error:
        raise BadRequest(
            f"Invalid value for 'model': {error}.", param="model", code="model_not_found"
        ) from None
    if parsed.mode is not Mode.NORMAL:
        raise BadRequest(
            f"Invalid value for 'model': {abbreviated(name)} names a mode, but a job trains the weights "
            f"of both modes. Give '{parsed.stored}'.",
            param="model",
        )
    checkpoint = checkpoint_of(session, project_id, name)
    if checkpoint is None:
        raise _unknown(session, project_id, name)
    if not has_weights(checkpoint):
        raise BadRequest(weights_gone(name, checkpoint), param="model", code="model_not_found")
    return Weights(checkpoint.path, checkpoint)


def encoder_to_use(name: str, param: str) -> str:
    """The place of the encoder called ``name``; raises BadRequest naming the encoders that there are."""
    if encoder_path(name) is None:
        known = encoders()
        there_is = f"Known encoders: {one_of(known, name)}" if known else "There is none yet"
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(name)} is not a text encoder. {there_is}; "
            "'policysplit models pull all-MiniLM-L6-v2' fetches one, as does POST /v1/models/pull.",
            param=param,
            code="model_not_found",
        )
    return base_place(name)


def _unknown(session: Session, project_id: str, name: str) -> BadRequest:
    finished = session.scalars(
        select(Job.fine_tuned_model)
        .where(Job.project_id == project_id, Job.fine_tuned_model.is_not(None))
        .order_by(Job.created_at.desc())
        .limit(20)
    )
    known = [*base_models(), *(model for model in finished if model)]
    which = "is not a finished model" if is_fine_tuned(name) else "does not exist"
    return BadRequest(
        f"The model {abbreviated(name)} {which}. Known models: {one_of(known, name)}. {HOW_TO_PULL}",
        param="model",
        code="model_not_found",
    )
