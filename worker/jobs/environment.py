"""What a trainer gets of its worker's environment: only the secrets of its own grader's endpoints."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from app.core.settings import get_settings
from app.core.strict_json import JsonObject
from trainer.gang.cluster import ADDRESS
from trainer.graders.operator import variables_for
from trainer.graders.spec import Grader
from trainer.system.environment import inherited

_OF_GRADERS = (
    *("POLICYSPLIT_GRADER_ENDPOINTS", "POLICYSPLIT_GRADER_SECRETS"),
    "POLICYSPLIT_GRADER_ALLOWED_HOSTS",
)


def trainer_environment(spec_path: Path) -> dict[str, str]:
    """For the trainer of the run that is specified there; for the driver of its gang on a Ray cluster
    (``trainer.gang``) with how to join that."""
    spec: JsonObject = json.loads(spec_path.read_text()) if spec_path.exists() else {}
    named = get_settings().trainer_environment
    joining: dict[str, str] = {}
    if spec.get("resources", {}).get("launcher") == "ray":
        joining = inherited(families=("RAY_",)) | {ADDRESS: get_settings().ray_address}
    return inherited({*named, *_OF_GRADERS, *_secrets(spec)}) | joining | {"PYTHONUNBUFFERED": "1"}


def _secrets(spec: JsonObject) -> set[str]:
    if not spec.get("grader"):
        return set()
    try:
        return variables_for(TypeAdapter(Grader).validate_python(spec["grader"]))
    except ValidationError:
        return set()  # the trainer will report it
