"""A file as the API shows it."""

from typing import Any, Literal

from pydantic import BaseModel

from app.tables import File

PURPOSES = ("fine-tune",)
RESULTS_PURPOSE = "fine-tune-results"


class FileObject(BaseModel):
    """OpenAI's file object, and ours: ``sha256`` and ``rows``."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None
    sha256: str
    rows: int | None


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


def file_object(file: File) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        sha256=file.sha256,
        rows=file.rows,
    )


def file_dict(file: File) -> dict[str, Any]:
    return file_object(file).model_dump()
