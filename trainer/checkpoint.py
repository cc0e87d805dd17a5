"""Checkpoints that are served, and the state that a run resumes from.

``checkpoints/step-N`` is a model in Hugging Face format (safetensors, tokenizer, chat template) with its
manifest, and with LoRA the adapter by itself in ``adapter``. ``state/step-N`` holds what only the trainer
needs: float32 masters of what is trained, AdamW moments, counters. Randomness needs no state
(``trainer.seeds``). Both appear whole or not at all.
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file

from trainer.files import atomic_folder
from trainer.manifest import MANIFEST_NAME, IncompleteCheckpoint, Manifest, file_sha256, read_manifest
from trainer.optim import MasterAdamW
from trainer.policy import Policy

TENSORS, COUNTERS = "state.safetensors", "state.json"


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
    """Write the state of ``counters.step`` and then drop the older ones."""
    with atomic_folder(parent / f"step-{counters.step}") as temporary:
        save_file(optimizer.state_tensors(), temporary / TENSORS)
        record = {"counters": asdict(counters), "sha256": file_sha256(temporary / TENSORS)}
        (temporary / COUNTERS).write_text(json.dumps(record))
    for step, folder in step_folders(parent).items():
        if step != counters.step:
            shutil.rmtree(folder)


def load_state(parent: Path, optimizer: MasterAdamW) -> Counters | None:
    """Restore the newest state whose tensors match their hash; None when there is none."""
    for folder in reversed(step_folders(parent).values()):
        try:
            record = json.loads((folder / COUNTERS).read_text())
            if file_sha256(folder / TENSORS) != record["sha256"]:
                continue
        except (OSError, ValueError):
            continue
        optimizer.load_state_tensors(load_file(folder / TENSORS))
        return Counters(**record["counters"])
    return None


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


def superseded(rewards: dict[int, float], keep_best: int) -> list[int]:
    """Checkpoint steps to remove: neither the last nor among the ``keep_best`` by validation reward."""
    best = sorted(rewards, key=lambda step: (rewards[step], step), reverse=True)[:keep_best]
    return [step for step in sorted(rewards) if step != max(rewards) and step not in best]
