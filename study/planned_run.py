"""One run of a study: the document that determines it, and the hash that names it. Torch-free."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.spec.data import JsonlData
from trainer.spec.run import RunSpec

# Stand for paths, which differ from machine to machine and are not part of what a run is.
MODEL, TRAINING, VALIDATION = "MODEL", "TRAINING", "VALIDATION"


@dataclass(frozen=True)
class PlannedRun:
    """One run. ``document`` determines it, but for the base model's weights."""

    task: str
    arm: str
    seed: int
    document: dict[str, Any]

    @classmethod
    def of(cls, study: str, task: str, arm: str, seed: int, spec: RunSpec) -> "PlannedRun":
        """The run of ``spec``, whose paths are the placeholders of this module."""
        # What differs from the defaults: an option that the trainer gains later changes no run and no hash.
        run = spec.model_dump(mode="json", exclude_defaults=True)
        for name in ("algorithm", "training_data", "validation_data"):
            part = getattr(spec, name)
            run[name] = {"type": part.type} | part.model_dump(mode="json", exclude_defaults=True)
        if "exploration" in run["algorithm"]:  # told apart by what is a default in each
            run["algorithm"]["exploration"]["level"] = spec.algorithm.exploration.level  # type: ignore[union-attr]
        return cls(task, arm, seed, {"study": study, "task": task, "arm": arm, "seed": seed, "run": run})

    @property
    def study(self) -> str:
        """The name of the study that it belongs to."""
        return self.document["study"]

    @property
    def hash(self) -> str:
        """Names the run: SHA-256 of its document, shortened."""
        text = json.dumps(self.document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def spec(self, model: Path, training: Path, validation: Path) -> RunSpec:
        """What the trainer gets."""
        spec = RunSpec.model_validate(self.document["run"])
        return spec.model_copy(
            update={
                # Pre-registered: the model after the last step, which no validation chose.
                "checkpoint": spec.checkpoint.model_copy(update={"select": "last"}),
                "model": spec.model.model_copy(update={"path": str(model)}),
                "training_data": JsonlData(path=str(training)),
                "validation_data": JsonlData(path=str(validation)),
            }
        )
