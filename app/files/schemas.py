"""A file as the API shows it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.tables import File

PURPOSES = ("fine-tune",)
RESULTS_PURPOSE = "fine-tune-results"


class FileObject(BaseModel):
    """OpenAI's file object, and ours: ``sha256`` and ``rows``."""

    id: str = Field(description="What jobs name it by, `file-…`")
    object: Kind[Literal["file"]] = "file"
    bytes: int = Field(description="Size in bytes")
    created_at: CreatedAt
    expires_at: int | None = Field(description="Always null: files stay until they are deleted")
    filename: str = Field(description="The name that it was uploaded by")
    purpose: str = Field(
        description="fine-tune for what was uploaded, fine-tune-results for what a job wrote"
    )
    status: Literal["uploaded", "processed", "error"] = Field(
        description="Always processed: lines are checked before a file is taken in"
    )
    status_details: str | None = Field(description="Always null, for a file with a bad line is refused")
    sha256: str = Field(description="SHA-256 of the bytes, hex")
    rows: int | None = Field(description="How many lines it has; null for a result file")


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id that the file had")
    object: Kind[Literal["file"]] = "file"
    deleted: Deleted = True


#: What a file object shows, in the order of :func:`file_dict`'s parameters.
SHOWN = (File.id, File.bytes, File.created_at, File.filename, File.purpose, File.sha256, File.rows)


def file_object(file: File) -> FileObject:
    return FileObject.model_validate(file_dict(*(getattr(file, column.key) for column in SHOWN)))


def file_dict(
    file_id: str, size: int, created_at: float, filename: str, purpose: str, sha256: str, rows: int | None
) -> dict[str, Any]:
    """A file object of a row's columns. A list has thousands: nothing is checked again, or found by name."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": int(created_at),
        "expires_at": None,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
        "sha256": sha256,
        "rows": rows,
    }
