"""A repository on the model hub, and its files brought here: what it is first, then its bytes.

Nothing that the hub says is trusted: names of files stay inside the folder, no more bytes are read than were
announced, and where the hub tells a hash the bytes must have it. Files that are here already, and the
beginnings of others, are not asked for again.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import httpx

from trainer.system.files import put_in_place

TIMEOUT_SECONDS = 5.0
READ_SECONDS = 30.0
#: What is fetched; weights in other formats than safetensors can run code.
PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]
MAX_FILES = 1000
#: Tries at a file that bring nothing further, one after the other.
TRIES = 4
PAUSE_SECONDS = 1.0


class PullError(Exception):
    """The model cannot be had; the message says why and what would work, ``code`` the same to programs."""

    def __init__(self, message: str, code: str = "pull_failed"):
        super().__init__(message)
        self.code = code


class Unreachable(PullError):
    """The hub does not answer, or no more."""

    def __init__(self, message: str):
        super().__init__(message, "hub_unreachable")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class HubModel:
    """What the hub says of a repository at one commit, ``revision``."""

    repository: str
    revision: str
    license: str | None
    parameters: int
    files: tuple[HubFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.size for file in self.files)


def look_up(repository: str) -> HubModel:
    """What the hub has under that name; raises PullError, Unreachable where the hub does not answer."""
    from httpx2 import HTTPError  # the hub library's HTTP client
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        raise Unreachable("HF_HUB_OFFLINE is set")
    _check_reachable(constants.ENDPOINT)
    try:
        info = HfApi().model_info(repository, timeout=TIMEOUT_SECONDS, files_metadata=True)
    except GatedRepoError as error:
        raise _gated(repository) from error
    except RepositoryNotFoundError as error:
        raise PullError(
            f"the model hub does not have {repository} (private repositories need HF_TOKEN)",
            "model_not_found",
        ) from error
    except HFValidationError as error:
        raise PullError(f"{repository!r} is not a valid repository name: {error}", "invalid_value") from error
    except HfHubHTTPError as error:
        raise PullError(f"the model hub answered: {error}") from error
    except (OSError, HTTPError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    found = [one for one in info.siblings or [] if _wanted(one.rfilename)]
    if not any(one.rfilename.endswith(".safetensors") for one in found):
        raise PullError(
            f"{repository} has no safetensors file: pickled weights can run code and are not loaded",
            "no_safetensors",
        )
    if len(found) > MAX_FILES or any(one.size is None for one in found):
        raise PullError(
            f"{repository} has more than {MAX_FILES} files, or some whose size the hub does not report"
        )
    files = tuple(
        HubFile(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs is not None else None)
        for one in found
    )
    weights = sum(file.size for file in files if file.name.endswith(".safetensors"))
    counted = info.safetensors.total if info.safetensors is not None else None
    card = info.card_data.to_dict() if info.card_data else {}
    license_name = card.get("license")
    return HubModel(
        repository=repository,
        revision=str(info.sha),
        license=license_name if isinstance(license_name, str) else None,
        parameters=counted or weights // 2,
        files=files,
    )


def download(model: HubModel, folder: Path, told: Callable[[int], None]) -> None:
    """Bring the repository's files into ``folder``; ``told`` hears how many bytes are there.

    What is there already stays. Raises PullError; what had come by then is kept for the next time.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    headers = {name: str(value) for name, value in build_hf_headers().items()} | {
        "accept-encoding": "identity"
    }
    before = 0
    with httpx.Client(
        follow_redirects=True, timeout=httpx.Timeout(TIMEOUT_SECONDS, read=READ_SECONDS), headers=headers
    ) as client:
        for file in model.files:
            url = hf_hub_url(model.repository, file.name, revision=model.revision)
            _fetch(client, url, file, folder, model, lambda done, base=before: told(base + done))
            before += file.size


def _fetch(
    client: httpx.Client,
    url: str,
    file: HubFile,
    folder: Path,
    model: HubModel,
    told: Callable[[int], None],
) -> None:
    target = folder / file.name
    if target.is_file() and target.stat().st_size == file.size:
        told(file.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    tries, here = TRIES, _size(part)
    while here < file.size or not part.is_file():
        try:
            _continue(client, url, file, part, model, told)
            cut = "the connection was closed"
        except httpx.TransportError as error:
            cut = str(error) or type(error).__name__
        moved, here = _size(part) > here, _size(part)
        tries = TRIES if moved else tries - 1
        if here < file.size and tries == 0:
            raise PullError(
                f"the download of {file.name} broke off after {here:,} of {file.size:,} bytes ({cut}); "
                "what was downloaded is kept: pull the model again to continue",
                "download_broke_off",
            )
        if here < file.size and not moved:
            time.sleep(PAUSE_SECONDS)
    if file.sha256 is not None and _sha256(part) != file.sha256:
        part.unlink()
        raise PullError(
            f"{file.name} of {model.repository} has a different hash than the hub reports: try again"
        )
    put_in_place(part, target)


def _continue(
    client: httpx.Client,
    url: str,
    file: HubFile,
    part: Path,
    model: HubModel,
    told: Callable[[int], None],
) -> None:
    """Read from where ``part`` ends until the file or the connection does."""
    done = _size(part)
    with client.stream("GET", url, headers={"range": f"bytes={done}-"} if done else {}) as answer:
        if answer.status_code in (401, 403):
            raise _gated(model.repository)
        if answer.status_code >= 500 or answer.status_code == 429:
            return
        if answer.status_code not in (200, 206):
            raise PullError(f"the model hub answered HTTP {answer.status_code} for {file.name}")
        if answer.status_code == 200:
            done = 0
        with part.open("r+b" if part.exists() else "wb") as sink:
            sink.truncate(done)
            sink.seek(done)
            for chunk in answer.iter_raw():
                if done + len(chunk) > file.size:
                    raise PullError(
                        f"{file.name} is longer than the {file.size:,} bytes that the hub announced"
                    )
                sink.write(chunk)
                done += len(chunk)
                told(done)


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name
    hidden = any(part.startswith(".") for part in path.parts)
    return inside and not hidden and any(path.match(pattern) for pattern in PATTERNS)


def _gated(repository: str) -> PullError:
    return PullError(f"{repository} is gated: accept its terms on the hub and set HF_TOKEN", "model_gated")


def _check_reachable(endpoint: str) -> None:
    """Raise Unreachable unless ``endpoint`` answers within a few seconds."""
    try:
        answer = httpx.get(f"{endpoint}/api/models?limit=1", timeout=TIMEOUT_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    # Anything else than a list is a proxy or an outage speaking.
    if answer.status_code != 200:
        raise Unreachable(f"{endpoint} answered HTTP {answer.status_code}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
