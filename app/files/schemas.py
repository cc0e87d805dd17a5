"""A file as the API shows it."""

from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy import Row

from app.core.tables import File

PURPOSES = ("fine-tune",)
RESULTS_PURPOSE = "fine-tune-results"


class FileObject(BaseModel):
    """OpenAI's file object, and ours: ``sha256`` and ``rows``."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    sha256: str
    rows: int | None


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


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
