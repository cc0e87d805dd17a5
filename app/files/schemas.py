"""A file as the API shows it."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import Row

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


def file_object(file: File) -> FileObject:
    return FileObject.model_validate(file_dict(file))


def file_dict(file: File | Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """A file object of a row, or of its columns alone. A list has thousands: they are not checked again."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": file.sha256,
        "rows": file.rows,
    }
