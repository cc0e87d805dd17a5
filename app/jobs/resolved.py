"""The result of resolving a request."""

from dataclasses import dataclass
from typing import Any

from trainer.spec.run import RunSpec


@dataclass(frozen=True)
class Resolved:
    """What the job shows (``method``) and what the trainer gets (``run_spec``)."""

    method: dict[str, Any]
    run_spec: RunSpec
    notes: tuple[str, ...] = ()
    """Which parts of the request have no effect, in sentences."""
