"""What a folder in the store consists of: its files with their hashes, and the one hash of all of it."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.core.store.errors import Damaged
from trainer.spec.manifest import file_sha256

_REFERENCE = re.compile(r"store:([\w./-]+)@([0-9a-f]{64})(?:/([\w./-]+))?")


@dataclass(frozen=True)
class Content:
    """One file's."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Tree:
    """A folder's files by their relative names."""

    files: dict[str, Content]

    @classmethod
    def of(cls, folder: Path) -> "Tree":
        """What lies in a folder, but for what is being written there. Reads all of it."""
        return cls(
            {
                path.relative_to(folder).as_posix(): Content(path.stat().st_size, file_sha256(path))
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.name.startswith(".")
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what :meth:`written` gives, hex."""
        return hashlib.sha256(self.written()).hexdigest()

    def written(self) -> bytes:
        """As it lies in the store."""
        found = {name: [one.bytes, one.sha256] for name, one in sorted(self.files.items())}
        return json.dumps(found, separators=(",", ":")).encode()

    @classmethod
    def read(cls, content: bytes, reference: "Reference") -> "Tree":
        """What :meth:`written` wrote; raises Damaged where it is not what ``reference`` is of."""
        if hashlib.sha256(content).hexdigest() != reference.digest:
            raise Damaged(f"the list of files of {reference.name} is not the one that was stored")
        tree = cls({name: Content(size, digest) for name, (size, digest) in json.loads(content).items()})
        for name in tree.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise Damaged(f"{reference.name} has a file called {name!r}, which is outside its folder")
        return tree


@dataclass(frozen=True)
class Reference:
    """A folder in the store: its name there, such as ``runs/JOB/checkpoints/step-3``, and its tree's digest.

    Rows and specifications have it as text, ``store:NAME@DIGEST``, where they have a path otherwise; with
    ``/FILE`` at its end it means one file of the folder.
    """

    name: str
    digest: str
    file: str = ""

    @classmethod
    def parse(cls, place: str) -> "Reference | None":
        """The reference that ``place`` is; None: it is a path."""
        found = _REFERENCE.fullmatch(place)
        return None if found is None else cls(found[1], found[2], found[3] or "")

    def __str__(self) -> str:
        return f"store:{self.name}@{self.digest}" + (f"/{self.file}" if self.file else "")

    @property
    def prefix(self) -> str:
        """Where its objects lie."""
        return f"{self.name}/{self.digest}"

    @property
    def tree_path(self) -> str:
        """The object that is written last: where it is, all of the folder is."""
        return f"{self.prefix}/tree.json"

    def object_path(self, file: str) -> str:
        """The object of one of its files."""
        return f"{self.prefix}/content/{file}"
