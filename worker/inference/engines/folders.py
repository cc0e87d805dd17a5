"""Model folders, read without loading anything."""

import json
from pathlib import Path

from app.core.strict_json import JsonObject
from worker.inference.errors import RequestRefused


def check_model(folder: Path) -> None:
    """Raise RequestRefused unless there is a model in ``folder``, in a format that is safe to load."""
    if not (folder / "config.json").is_file():
        raise RequestRefused(
            f"there is no model in {folder} on the inference worker's host", code="model_missing"
        )
    if not any(folder.glob("*.safetensors")):
        # Other formats are pickles: loading one would run what it contains.
        raise RequestRefused(f"{folder} has no .safetensors weights", code="model_missing")


def weights_bytes(folder: Path) -> int:
    """Size of the folder's weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def context_length(folder: Path) -> int | None:
    """Tokens that the model was made for; None where its config does not say."""
    config = read_json(folder / "config.json")
    limit = config.get("max_position_embeddings") or config.get("text_config", {}).get(
        "max_position_embeddings"
    )
    return int(limit) if limit else None


def read_json(path: Path) -> JsonObject:
    """What the file says; nothing where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}
