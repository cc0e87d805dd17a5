"""The result of resolving a request."""

from dataclasses import dataclass

from app.core.strict_json import JsonObject
from trainer.spec.run import RunSpec


@dataclass(frozen=True)
class Resolved:
    """What the job shows (``method``) and what the trainer gets (``run_spec``)."""

    method: JsonObject
    run_spec: RunSpec
    notes: tuple[str, ...] = ()
    """Which parts of the request have no effect, in sentences."""
