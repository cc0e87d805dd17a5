"""Checkpoints that are served, and the state that a run resumes from.

``checkpoints/step-N`` is a model in Hugging Face format (safetensors, tokenizer, chat template) with its
manifest, and with LoRA the adapter by itself in ``adapter``. ``state/step-N`` holds what only the trainer
needs: float32 masters of what is trained, AdamW moments, counters. Randomness needs no state
(``trainer.seeds``). Both appear whole or not at all.

A state of one process, or of ranks that each have all weights, is one safetensors file; of a sharded model it
is a file of each rank (``trainer.checkpoints.shards``). Either is read by any number of processes. They are
two because the first needs no pickle and no process group, and is what states of before are.
"""

import copy
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.checkpoints.shards import BackgroundSave, read_parts, read_whole
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.sharding import is_sharded
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
        _write_record(temporary, counters, {"sha256": file_sha256(temporary / TENSORS)})
    _drop_states(parent, counters.step)


def save_parts(parent: Path, optimizer: MasterAdamW, counters: Counters, beside: BackgroundSave) -> None:
    """The same of a sharded model, written while training goes on; collective."""
    counters = copy.deepcopy(counters)

    def finish(folder: Path, hashes: dict[str, str]) -> None:
        if hashes:
            _write_record(folder, counters, {"files": hashes})
        else:
            _drop_states(parent, counters.step)

    beside.start(parent / f"step-{counters.step}", optimizer.state_tensors(), finish)


def _write_record(folder: Path, counters: Counters, hashes: dict[str, Any]) -> None:
    counted = asdict(counters)
    record = {"counters": counted, "counters_sha256": json_sha256(counted), **hashes}
    (folder / COUNTERS).write_text(json.dumps(record))


def _drop_states(parent: Path, step: int) -> None:
    """All but that of ``step`` and the one before."""
    found = step_folders(parent)
    # One of a later step is damaged, or the run would have gone on from it.
    kept = [number for number in found if number <= step][-KEPT_STATES:]
    for number, folder in found.items():
        if number not in kept:
            shutil.rmtree(folder)


def load_state(
    parent: Path, optimizer: MasterAdamW, up_to: int | None = None, ranks: Ranks = ALONE
) -> tuple[Counters | None, list[str]]:
    """Restore the newest state that is as it was written, or none; and what is wrong with newer ones.

    Whoever wrote it: one process or any number of ranks. Collective; each rank looks at some of the files.

    Args:
        up_to: the last step whose state may be taken.
    """
    problems: list[str] = []
    for step, folder in reversed(step_folders(parent).items()):
        if up_to is not None and step > up_to:
            continue
        problem, counters = "", None
        try:
            counters = _read_counters(folder, ranks)
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = str(error)
        if found := [one for one in ranks.gather(problem) if one]:
            problems.append(f"the state of step {step} is damaged ({found[0]})")
            continue
        optimizer.load_state_tensors(_read_tensors(folder, optimizer.masters(), ranks))
        return counters, problems
    return None, problems


def _read_tensors(folder: Path, masters: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    sharded = is_sharded(masters.values())
    if not (folder / TENSORS).is_file():
        return read_parts(folder, masters, ranks.beside if sharded else None)
    return read_whole(folder / TENSORS, masters) if sharded else load_file(folder / TENSORS)


def _read_counters(folder: Path, ranks: Ranks) -> Counters:
    """The counters of a state; raises when a part of it is missing or is not what was written."""
    record = json.loads((folder / COUNTERS).read_bytes())
    if json_sha256(record["counters"]) != record["counters_sha256"]:
        raise ValueError(f"{COUNTERS} does not match its SHA-256")
    hashes: dict[str, str] = record["files"] if "files" in record else {TENSORS: record["sha256"]}
    for name in ranks.share(sorted(hashes)):
        if (found := file_sha256(folder / name)) != hashes[name]:
            raise ValueError(f"{name} has SHA-256 {found}, but {COUNTERS} says {hashes[name]}")
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
