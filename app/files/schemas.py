"""A file as it is uploaded, and as the API shows it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.parameters import Metadata
from app.core.tables import File
from trainer.graders.spec import StrictModel
from trainer.spec.rows import READERS, Method

TRAINING_PURPOSE, EVALS_PURPOSE = "fine-tune", "evals"
#: Of uploads.
PURPOSES = (TRAINING_PURPOSE, EVALS_PURPOSE)
RESULTS_PURPOSE = "fine-tune-results"


class ExpiresAfter(StrictModel):
    """How long a file is kept."""

    anchor: Literal["created_at"] = Field(description="What the time is counted from: always the upload")
    # A form's fields are texts.
    seconds: Annotated[int, Field(strict=False, ge=3600, le=2_592_000)] = Field(
        description="From 3600, an hour, to 2592000, 30 days"
    )


class UploadFields(StrictModel):
    """What an upload says beside its bytes; within a form ``expires_after[seconds]``, ``metadata[key]``."""

    purpose: Literal["fine-tune", "evals"] = Field(
        description="What it is for: fine-tune for training and validation data, evals for the items of runs"
    )
    expires_after: ExpiresAfter | None = Field(
        default=None,
        description="When it goes by itself, once no unfinished job or run needs it; default: when it is "
        "deleted",
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )


def form_properties() -> dict[str, Any]:
    """The fields of an upload as the API's description has them: in a form nothing is null."""
    schema = UploadFields.model_json_schema()
    properties = schema["properties"] | {}
    for name in ("expires_after", "metadata"):
        (given, _null) = properties[name].pop("anyOf")
        del properties[name]["default"]
        properties[name] = {
            **(schema["$defs"][ExpiresAfter.__name__] if "$ref" in given else given)
        } | properties[name]
    return properties


class FileObject(BaseModel):
    """OpenAI's file object, and ours: ``sha256``, ``rows``, ``methods`` and ``metadata``."""

    id: str = Field(description="What jobs name it by, `file-…`")
    object: Kind[Literal["file"]] = "file"
    bytes: int = Field(description="Size in bytes")
    created_at: CreatedAt
    expires_at: int | None = Field(
        description="When it goes by itself, or once no unfinished job or run needs it, Unix time in "
        "seconds; null: when it is deleted"
    )
    filename: str = Field(description="The name that it was uploaded by")
    purpose: str = Field(
        description="fine-tune or evals, as it was uploaded, and fine-tune-results for what a job wrote"
    )
    status: Literal["uploaded", "processed", "error"] = Field(
        description="Always processed: lines are checked before a file is taken in"
    )
    status_details: str | None = Field(description="Always null, for a file with a bad line is refused")
    sha256: str = Field(description="SHA-256 of the bytes, hex")
    rows: int | None = Field(description="How many lines it has; null for a result file")
    methods: list[Method] | None = Field(
        description="The methods of a job that can learn from its rows; null for a result file, or one that "
        "was uploaded before there were several"
    )
    metadata: dict[str, str] | None = Field(
        description="Pairs that were given with it; null where there are none"
    )


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id that the file had")
    object: Kind[Literal["file"]] = "file"
    deleted: Deleted = True


#: What a file object shows, in the order of :func:`file_dict`'s parameters.
SHOWN = (
    *(File.id, File.bytes, File.created_at, File.filename, File.purpose, File.sha256, File.rows),
    *(File.expires_at, File.user_metadata, File.unfit),
)


def file_object(file: File) -> FileObject:
    return FileObject.model_validate(file_dict(*(getattr(file, column.key) for column in SHOWN)))


def file_dict(
    file_id: str,
    size: int,
    created_at: float,
    filename: str,
    purpose: str,
    sha256: str,
    rows: int | None,
    expires_at: float | None,
    metadata: dict[str, object] | None,
    unfit: dict[str, object] | None,
) -> dict[str, Any]:
    """A file object of a row's columns. A list has thousands: nothing is checked again, or found by name."""
    return {
        "id": file_id,
        "object": "file",
        "bytes": size,
        "created_at": int(created_at),
        "expires_at": None if expires_at is None else int(expires_at),
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
        "sha256": sha256,
        "rows": rows,
        "methods": None if unfit is None else [method for method in READERS if method not in unfit],
        "metadata": metadata,
    }
