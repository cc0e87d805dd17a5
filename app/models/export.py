"""A fine-tuned model as a folder that other programs load: whole weights, tokenizer, model card."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.core.errors import BadRequest
from app.core.store.artefacts import local
from app.core.tables import Job
from app.models.card import model_card
from app.models.service import Found, find_model
from trainer.spec.manifest import MANIFEST_NAME, Manifest, read_manifest
from trainer.system.files import atomic_folder

CARD_NAME = "README.md"


@dataclass(frozen=True)
class Exportable:
    """A checkpoint, read and verified."""

    found: Found
    folder: Path
    manifest: Manifest
    base: str
    """The base model's name."""
    license: str | None


def exportable(session: Session, project_id: str, name: str) -> Exportable:
    """The checkpoint behind ``name``, any of its ids, with every file compared with its hash.

    Raises an ApiError where there is none, IncompleteCheckpoint where its files are not what was saved.
    """
    found = find_model(session, project_id, name)
    if found.checkpoint is None or found.shown.job is None:
        raise BadRequest(
            f"{name!r} is a base model: its folder needs no export. Give a fine-tuned model.",
            param="model",
        )
    folder = local(found.place)
    manifest = read_manifest(folder, verify=True)
    job = session.get_one(Job, found.shown.job)
    base = found.shown.root or job.model
    return Exportable(found, folder, manifest, base, _license(Path(manifest.base_model)))


def export_to(exported: Exportable, target: Path) -> Path:
    """Write the folder; it appears whole or not at all. Raises FileExistsError where something is already.

    As transformers, ``vllm serve`` and llama.cpp's converter expect it: weights, config and tokenizer at the
    top, adapters, which the weights contain already, below.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(target) as temporary:
        for name in (*exported.manifest.files, MANIFEST_NAME):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(exported.folder / name, temporary / name)
        _template_where_all_look(temporary)
        (temporary / CARD_NAME).write_text(
            model_card(exported.found.checkpoint or "", exported.manifest, exported.base, exported.license)
        )
    return target


def _template_where_all_look(folder: Path) -> None:
    """Put the chat template into the tokenizer's config, too: not every program knows the file of its own."""
    template, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if template.is_file() and config.is_file():
        said = json.loads(config.read_text())
        said.setdefault("chat_template", template.read_text())
        config.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n")


def _license(base: Path) -> str | None:
    """The base model's licence, where ``models pull`` wrote it down."""
    try:
        return json.loads((base / "policysplit-source.json").read_text()).get("license")
    except (OSError, ValueError):
        return None
