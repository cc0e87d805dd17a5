"""Ranks of several hosts run the same code: what differs in a release would differ in numbers, or hang."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import trainer
from trainer.errors import InvalidSpec

if TYPE_CHECKING:  # torch is not imported for versions alone
    from trainer.distributed.ranks import Ranks


def check_same_code(ranks: "Ranks", own: dict[str, str] | None = None) -> None:
    """Raise InvalidSpec, on every rank, naming the first host that has other versions; collective."""
    from trainer.distributed.peer_monitor import host_name

    told = ranks.gather((host_name(), versions() if own is None else own))
    (first_host, first), *others = told
    for rank, (host, its) in enumerate(others, 1):
        for name, value in its.items():
            if value != first[name]:
                raise InvalidSpec(
                    f"rank {rank} on {host} has {name} {value}, but rank 0 on {first_host} has "
                    f"{first[name]}: install the same on every host"
                )


@cache
def versions() -> dict[str, str]:
    """What is installed here, by name."""
    found = {name: _version(name) for name in ("policysplit", "torch", "transformers")}
    return found | {"trainer code": _source_sha256()[:12]}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "of a checkout"


def _source_sha256() -> str:
    """Of all modules of the trainer."""
    folder = Path(trainer.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
