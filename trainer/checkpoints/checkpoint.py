"""Checkpoints that are served, and the state that a run resumes from.

``checkpoints/step-N`` is a model in Hugging Face format (safetensors, tokenizer, chat template) with its
manifest, and with LoRA the adapter by itself in ``adapter``. ``state/step-N`` holds what only the trainer
needs: float32 masters of what is trained, AdamW moments, counters. Randomness needs no state
(``trainer.seeds``). Both appear whole or not at all.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file

from trainer.model.optim import MasterAdamW
from trainer.model.policy import Policy
from trainer.spec.manifest import MANIFEST_NAME, IncompleteCheckpoint, Manifest, file_sha256, read_manifest
from trainer.system.files import TEMPORARY, atomic_folder

TENSORS, COUNTERS = "state.safetensors", "state.json"
#: States that are kept: the newest, and the one before it for the case that the newest is damaged.
KEPT_STATES = 2


@dataclass
class Counters:
    """What a run has counted so far."""

    step: int = 0
    updates: int = 0
    items: int = 0
    """Items sampled so far: where the next step begins in the order of items."""
    trained_tokens: int = 0
    algorithm_state: dict[str, float] = field(default_factory=dict)
    entropy_history: dict[str, list[float]] = field(default_factory=dict)
    reward_history: dict[str, list[float]] = field(default_factory=dict)
    suspect_steps: dict[str, int] = field(default_factory=dict)
    """By mode, how many steps in a row have looked as if it fell apart (``trainer.steps.guards``)."""
    batches: str = ""
    """What was sampled for steps to come (``trainer.steps.ahead``); in states alone."""


def step_folders(parent: Path) -> dict[int, Path]:
    """Finished ``step-N`` folders by N, ascending."""
    found = {int(path.name[5:]): path for path in parent.glob("step-*") if path.name[5:].isdecimal()}
    return dict(sorted(found.items()))


def save_checkpoint(folder: Path, policy: Policy, manifest: Manifest) -> Manifest:
    """Write a servable checkpoint; returns the manifest with the files' hashes."""
    with atomic_folder(folder) as temporary:
        policy.save(temporary)
        files = {
            path.relative_to(temporary).as_posix(): file_sha256(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        manifest = manifest.model_copy(update={"files": files})
        (temporary / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2))
    return manifest


def checkpoint_sha256(folder: Path) -> str:
    """The manifest's own hash, which identifies a checkpoint's content."""
    return file_sha256(folder / MANIFEST_NAME)


def save_state(parent: Path, optimizer: MasterAdamW, counters: Counters) -> None:
    """Write the state of ``counters.step`` and then drop all but it and the one before."""
    with atomic_folder(parent / f"step-{counters.step}") as temporary:
        save_file(optimizer.state_tensors(), temporary / TENSORS)
        counted = asdict(counters)
        record = {
            "counters": counted,
            "counters_sha256": json_sha256(counted),
            "sha256": file_sha256(temporary / TENSORS),
        }
        (temporary / COUNTERS).write_text(json.dumps(record))
    # One of a later step is damaged, or the run would have gone on from it.
    found = step_folders(parent)
    kept = [step for step in found if step <= counters.step][-KEPT_STATES:]
    for step, folder in found.items():
        if step not in kept:
            shutil.rmtree(folder)


def load_state(
    parent: Path, optimizer: MasterAdamW, up_to: int | None = None
) -> tuple[Counters | None, list[str]]:
    """Restore the newest state that is as it was written, or none; and what is wrong with newer ones.

    ``up_to``: the last step whose state may be taken.
    """
    problems: list[str] = []
    for step, folder in reversed(step_folders(parent).items()):
        if up_to is not None and step > up_to:
            continue
        try:
            counters = _read_counters(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"the state of step {step} is damaged ({error})")
            continue
        optimizer.load_state_tensors(load_file(folder / TENSORS))
        return counters, problems
    return None, problems


def _read_counters(folder: Path) -> Counters:
    """The counters of a state; raises when a part of it is missing or is not what was written."""
    record = json.loads((folder / COUNTERS).read_bytes())
    if json_sha256(record["counters"]) != record["counters_sha256"]:
        raise ValueError(f"{COUNTERS} does not match its SHA-256")
    if (found := file_sha256(folder / TENSORS)) != record["sha256"]:
        raise ValueError(f"{TENSORS} has SHA-256 {found}, but {COUNTERS} says {record['sha256']}")
    return Counters(**record["counters"])


def json_sha256(value: object) -> str:
    """SHA-256 of a value's JSON with sorted keys, hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def remove_unfinished(parent: Path) -> None:
    """Remove what a process left behind that was killed while it wrote a folder."""
    for folder in parent.glob(f".step-*{TEMPORARY}*"):
        shutil.rmtree(folder, ignore_errors=True)


def finished_checkpoints(parent: Path, up_to: int) -> dict[int, tuple[Path, Manifest]]:
    """Complete checkpoints of steps up to ``up_to``, verified against their manifests; others are removed.

    A later one belongs to steps that will be done again; a torn one is of no use.
    """
    found: dict[int, tuple[Path, Manifest]] = {}
    for step, folder in step_folders(parent).items():
        try:
            manifest = read_manifest(folder, verify=True)
        except IncompleteCheckpoint:
            manifest = None
        if manifest is None or step > up_to:
            shutil.rmtree(folder)
        else:
            found[step] = (folder, manifest)
    return found


class Score(NamedTuple):
    """What a checkpoint is ranked by: a validation metric, before a reward of the training's items."""

    evaluated: bool
    value: float


def superseded(scores: Mapping[int, Score], keep_best: int) -> list[int]:
    """Checkpoint steps to remove: neither the last nor among the ``keep_best`` by score."""
    best = sorted(scores, key=lambda step: (scores[step], step), reverse=True)[:keep_best]
    return [step for step in sorted(scores) if step != max(scores) and step not in best]
