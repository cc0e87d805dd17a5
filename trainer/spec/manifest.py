"""The manifest of a checkpoint folder: ``policysplit.json``, written last, so its presence means complete.

It carries the exact prompt that switches the checkpoint's high-entropy mode on, where that prompt stands, and
the variables of the chat template. Torch-free: the service reads it to serve both modes.
"""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from trainer.spec.events import Record
from trainer.spec.modes import Mode, Placement

MANIFEST_NAME = "policysplit.json"


class Manifest(Record):
    """What a checkpoint is, and the SHA-256 of each of its files."""

    run_id: str
    step: int = Field(ge=0)
    base_model: str
    algorithm: str
    high_entropy_prompt: str
    high_entropy_placement: Placement = "system"
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict, description="Variables that the chat template was given in both modes"
    )
    probe_ids: dict[Mode, list[int]] = Field(
        default_factory=dict[Mode, list[int]],
        description="Token ids of trainer.spec.messages.PROBE in each mode, as training renders it; none "
        "where the template reads the clock",
    )
    metrics: dict[str, float] = Field(default_factory=dict)
    spec: dict[str, Any] = Field(default_factory=dict, description="The RunSpec that produced it")
    counters: dict[str, Any] = Field(
        default_factory=dict, description="The run's counters, from which its next step can be replayed"
    )
    files: dict[str, str] = Field(default_factory=dict, description="Relative path to SHA-256, hex")


class IncompleteCheckpoint(ValueError):
    """A checkpoint folder without a manifest, or whose files do not match it."""


def read_manifest(folder: Path, verify: bool = False) -> Manifest:
    """Read a checkpoint's manifest; with ``verify`` also compare the hash of every file.

    Raises IncompleteCheckpoint when the manifest is missing or torn, or a file is missing or differs.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise IncompleteCheckpoint(f"{folder} has no {MANIFEST_NAME}: not a finished checkpoint")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise IncompleteCheckpoint(
            f"{path} is not a complete manifest: {error.errors()[0]['msg']}"
        ) from error
    if verify:
        for name, expected in manifest.files.items():
            file = folder / name
            if not file.is_file():
                raise IncompleteCheckpoint(f"{folder} lacks {name}")
            if (found := file_sha256(file)) != expected:
                raise IncompleteCheckpoint(f"{file} has SHA-256 {found}, but the manifest says {expected}")
    return manifest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
