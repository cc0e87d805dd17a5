"""Which run a folder is of: ``run.json``, the spec with its hash and those of its data.

A folder that has steps of one run takes no other: its states would go on under another spec, or its last
checkpoint pass for the other's result.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from pydantic import ValidationError

from trainer.checkpoints.checkpoint import json_sha256, step_folders
from trainer.errors import InvalidSpec
from trainer.spec.data import JsonlData
from trainer.spec.manifest import IncompleteCheckpoint, file_sha256, read_manifest
from trainer.spec.run import RunSpec
from trainer.system.files import write_atomically

RUN_NAME = "run.json"
#: What may change between two attempts: how much is computed at once and what is kept, and how far it goes.
_MAY_CHANGE = {
    "model.gradient_checkpointing",
    "optimizer.tokens_per_micro_batch",
    "optimizer.sharding",
    "optimizer.offload",
    "checkpoint.interval",
    "checkpoint.keep_best",
    "guards",
    "total_steps",
}
#: Places: the same thing may have been moved. Data are told by their hash, a model by its folder's name.
_PLACES = {"model.path", "training_data.path", "validation_data.path", "evaluation.embedding_model"}
_SHOWN = 3


class _Recorded(TypedDict):
    """What ``run.json`` says."""

    spec: dict[str, Any]
    data_sha256: dict[str, str]
    spec_sha256: NotRequired[str]


def claim_folder(run_dir: Path, spec: RunSpec) -> None:
    """Write down that the folder, made where there is none, is this run's; raises InvalidSpec where it is
    another's.

    That is one whose spec differs in what is trained, one of other data, or one that has ended after another
    number of steps and so keeps no state to go on from.
    """
    done = [step for parent in ("state", "checkpoints") for step in step_folders(run_dir / parent)]
    recorded = _recorded(run_dir) if done else None
    mine: _Recorded = {"spec": spec.model_dump(mode="json"), "data_sha256": _data_sha256(spec)}
    if recorded is not None:
        _compare(run_dir, recorded, mine)
        _check_steps(run_dir, done, recorded["spec"]["total_steps"], spec.total_steps)
    mine["spec_sha256"] = json_sha256(mine["spec"])
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(run_dir / RUN_NAME, json.dumps(mine, indent=2))


def _recorded(run_dir: Path) -> _Recorded | None:
    """What the folder says; where it was begun before folders said it, what its newest checkpoint says."""
    recorded: _Recorded = {"spec": {}, "data_sha256": {}}
    if (path := run_dir / RUN_NAME).is_file():
        recorded = json.loads(path.read_bytes())
    else:
        for folder in reversed(step_folders(run_dir / "checkpoints").values()):
            with suppress(IncompleteCheckpoint):
                recorded["spec"] = read_manifest(folder).spec
                break
    try:
        # With what a field was by default that the version which wrote it did not have.
        recorded["spec"] = RunSpec.model_validate(recorded["spec"]).model_dump(mode="json")
    except ValidationError:
        return None  # of a version whose fields were others
    return recorded


def _data_sha256(spec: RunSpec) -> dict[str, str]:
    data = {"training_data": spec.training_data, "validation_data": spec.validation_data}
    return {
        name: file_sha256(Path(source.path)) for name, source in data.items() if isinstance(source, JsonlData)
    }


def _compare(run_dir: Path, recorded: _Recorded, mine: _Recorded) -> None:
    found = [one for one in _differences(recorded["spec"], mine["spec"]) if not _same(*one)]
    differing = [name for name, _, _ in found]
    problems = [f"{name} is {_shown(there)} there and {_shown(here)} here" for name, there, here in found]
    for name, digest in mine["data_sha256"].items():
        if recorded["data_sha256"].get(name, digest) != digest:
            differing.append(name)
            problems.append(f"{name} has other rows")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InvalidSpec(
            f"{run_dir} contains another run: {'; '.join(problems[:_SHOWN])}{more}. Give an empty run "
            f"directory or the spec in its {RUN_NAME}",
            differing[0],
        )


def _check_steps(run_dir: Path, done: list[int], planned: int, steps: int) -> None:
    if steps == planned:
        return
    if planned in done:
        raise InvalidSpec(
            f"the run in {run_dir} has ended after its {planned} steps and has no state to continue from: "
            f"total_steps cannot become {steps}. Give an empty run directory",
            "total_steps",
        )
    if steps <= max(done):
        raise InvalidSpec(
            f"the run in {run_dir} has done {max(done)} steps: total_steps cannot become {steps}. Give a "
            "larger number, or an empty run directory",
            "total_steps",
        )


def _differences(there: object, here: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """Dotted names of the values of two specs that differ, with both."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            yield from _differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here:
        yield name, there, here


def _same(name: str, there: object, here: object) -> bool:
    if name in _PLACES and isinstance(there, str) and isinstance(here, str):
        return Path(there).name == Path(here).name
    return name in _MAY_CHANGE


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
