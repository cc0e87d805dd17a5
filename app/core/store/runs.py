"""What a run's folder leaves in the store: checkpoints, states that other hosts resume from, archives."""

import os
import shutil
from pathlib import Path

from app.core.settings import get_settings
from app.core.store.artefacts import keep, remove_below
from app.core.store.remote import remote
from app.core.store.trees import Reference
from trainer.system.files import atomic_folder

RUN_NAME = "run.json"
#: In a run's folder: what waits to be sent, as links.
OUTGOING = "outgoing"


def checkpoint_name(job_id: str, step: int) -> str:
    """What a checkpoint is called in the store."""
    return f"runs/{job_id}/checkpoints/step-{step}"


def archive_reference(job_id: str, number: int, digest: str) -> Reference:
    """What a part of the archive of a job's rollouts is in the store."""
    return Reference(f"runs/{job_id}/rollouts/part-{number}", digest)


def archive_here(job_id: str, number: int, digest: str) -> Path:
    """Where the same lies without a store."""
    return get_settings().data_dir.resolve() / archive_reference(job_id, number, digest).prefix


def states_name(job_id: str) -> str:
    """Below which a job's states lie in the store."""
    return f"runs/{job_id}/states"


def stored_states(job_id: str) -> dict[int, Reference]:
    """The states of a job that lie in the store whole, by their steps."""
    return dict(_states(job_id))


def _states(job_id: str) -> list[tuple[int, Reference]]:
    """Several of a step where one was damaged and the step done again."""
    store, found = remote(), []
    for one in () if store is None else store.list(states_name(job_id)):
        *_, name, digest, file = one.path.split("/")
        if file == "tree.json" and name.startswith("step-"):
            found.append((int(name[5:]), Reference(f"{states_name(job_id)}/{name}", digest)))
    return found


def link_state(run_dir: Path, step: int) -> Path:
    """A folder with the state of ``step`` and what says whose it is, which stays while the run goes on.

    Raises FileNotFoundError where a newer state has replaced it.
    """
    linked = run_dir / OUTGOING / f"state-{step}"
    for inside in (RUN_NAME, f"state/step-{step}"):
        if not (linked / inside).exists() and (inside != RUN_NAME or (run_dir / inside).exists()):
            link(run_dir / inside, linked / inside)
    return linked


def send_state(job_id: str, step: int, linked: Path) -> None:
    """Have a state in the store, and of the others the one before it alone. Raises StoreError."""
    sent = Reference.parse(keep(f"{states_name(job_id)}/step-{step}", linked))
    shutil.rmtree(linked, ignore_errors=True)
    there = _states(job_id)
    # One of a later step is damaged, or the run would have gone on from it.
    before = max((earlier for earlier, _ in there if earlier < step), default=None)
    for number, reference in there:
        if number != before and reference != sent:
            remove_below(reference.prefix)


def steps_in(parent: Path) -> list[int]:
    """The steps of finished ``step-N`` folders, ascending."""
    return sorted(int(path.name[5:]) for path in parent.glob("step-*") if path.name[5:].isdecimal())


def link(source: Path, target: Path) -> None:
    """Have a file, or a folder's files, also at ``target``, which appears at once: as links where the file
    system has them. A ``target`` that is there is kept."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        target.unlink(missing_ok=True)
        _link(source, target)
        return
    if target.exists():
        return
    with atomic_folder(target) as temporary:
        for path in source.rglob("*"):
            other = temporary / path.relative_to(source)
            if path.is_file():
                other.parent.mkdir(parents=True, exist_ok=True)
                _link(path, other)
        if not source.is_dir():
            raise FileNotFoundError(source)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
