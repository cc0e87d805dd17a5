"""A file as it is uploaded, and as the API shows it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.core.description import CreatedAt, Deleted, Kind
from app.core.parameters import Metadata
from app.core.strict_json import JsonObject
from app.core.tables import File
from trainer.graders.spec import StrictModel
from trainer.spec.rows import READERS, Method

TRAINING_PURPOSE, EVALS_PURPOSE = "fine-tune", "evals"
#: Of uploads.
PURPOSES = (TRAINING_PURPOSE, EVALS_PURPOSE)
RESULTS_PURPOSE = "fine-tune-results"


class ExpiresAfter(StrictModel):
    """How long a file is kept."""

    anchor: Literal["created_at"] = Field(description="When the time starts: always at upload")
    # A form's fields are texts.
    seconds: Annotated[int, Field(strict=False, ge=3600, le=2_592_000)] = Field(
        description="From 3600 (an hour) to 2592000 (30 days)"
    )


class UploadFields(StrictModel):
    """The fields of an upload besides its bytes; in a form ``expires_after[seconds]``, ``metadata[key]``."""

    purpose: Literal["fine-tune", "evals"] = Field(
        description="Purpose: fine-tune for training and validation data, evals for items of eval runs"
    )
    expires_after: ExpiresAfter | None = Field(
        default=None,
        description="When it is deleted automatically, once no unfinished job or run needs it; default: "
        "never",
    )
    metadata: Metadata | None = Field(
        default=None, description="Up to 16 pairs of texts for your own records"
    )


def form_properties() -> JsonObject:
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
    """OpenAI's file object; ``sha256``, ``rows``, ``methods`` and ``metadata`` are ours."""

    id: str = Field(description="Id by which jobs refer to it, `file-…`")
    object: Kind[Literal["file"]] = "file"
    bytes: int = Field(description="Size in bytes")
    created_at: CreatedAt
    expires_at: int | None = Field(
        description="When it is deleted automatically, or once no unfinished job or run needs it, Unix "
        "time in seconds; null: never"
    )
    filename: str = Field(description="The name it was uploaded under")
    purpose: str = Field(
        description="fine-tune or evals, as uploaded; fine-tune-results for a file that a job wrote"
    )
    status: Literal["uploaded", "processed", "error"] = Field(
        description="Always processed: lines are checked before a file is accepted"
    )
    status_details: str | None = Field(description="Always null: a file with a bad line is refused")
    sha256: str = Field(description="SHA-256 of the bytes, hex")
    rows: int | None = Field(description="Number of lines; null for a result file")
    methods: list[Method] | None = Field(
        description="Methods whose jobs can train on its rows; null for a result file, or one uploaded "
        "before there were several methods"
    )
    metadata: dict[str, str] | None = Field(description="The pairs given with it; null if none")


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str = Field(description="Id of the deleted file")
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
) -> JsonObject:
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
