"""What can be done with files."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.accounting.limits import check_storage
from app.core.audit import record
from app.core.db import read_session, write_session
from app.core.errors import BadRequest, Conflict, Forbidden, NotFound
from app.core.paging import unknown_cursor
from app.core.settings import get_settings
from app.core.store.errors import NotStored
from app.core.tables import File
from app.core.validation import abbreviated, validated
from app.files import repository, storage
from app.files.jsonl import check_evals_file, check_training_file
from app.files.schemas import EVALS_PURPOSE, RESULTS_PURPOSE, TRAINING_PURPOSE, UploadFields
from app.files.storage import StoredFile
from app.files.upload import Upload
from trainer.spec.rows import Method


def create(project_id: str, upload: Upload) -> File:
    """Check an upload and take it in. When this returns, bytes and row survive a power cut."""
    try:
        given = validated(UploadFields, upload.nested())
        if upload.file is None:
            raise BadRequest(
                "Missing required parameter: 'file'.", param="file", code="missing_required_parameter"
            )
        check = check_evals_file if given.purpose == EVALS_PURPOSE else check_training_file
        rows = check(upload.file.path, get_settings().max_line_bytes)
        stored = upload.file.keep()
    except BaseException:
        upload.discard()
        raise
    try:
        with write_session() as session:
            repository.lock_project(session, project_id)
            _check_quota(session, project_id, stored.bytes)
            file = _add(session, project_id, _filename(upload.filename), given.purpose, stored)
            file.user_metadata = None if given.metadata is None else dict(given.metadata)
            if given.expires_after is not None:
                file.expires_at = file.created_at + given.expires_after.seconds
            file.rows, file.fields = rows.count, dict(rows.fields)
            record(session, "file.created", file.id, project_id, filename=file.filename, bytes=file.bytes)
            file.unfit = {str(method): text for method, text in rows.unfit.items()}
    except BaseException:
        storage.remove(stored.id)
        raise
    return file


def check_quota(project_id: str, size: int) -> None:
    """Whether a file of ``size`` bytes may come; asked before its bytes do. Raises Forbidden."""
    with read_session() as session:
        _check_quota(session, project_id, size)


def create_result_file(session: Session, *, project_id: str, filename: str, stored: StoredFile) -> File:
    """The row of a job's result. ``stored`` comes from :func:`app.files.storage.store`, called before the
    transaction, so that none is held open while a disk writes."""
    return _add(session, project_id, filename, RESULTS_PURPOSE, stored)


def training_file(session: Session, project_id: str, file_id: str | None, param: str) -> File:
    """The file of rows to train or evaluate on. Raises BadRequest naming ``param`` where there is none."""
    return file_for(session, project_id, file_id, param, [TRAINING_PURPOSE])


def file_for(
    session: Session,
    project_id: str,
    file_id: str | None,
    param: str,
    purposes: Sequence[str],
    *,
    lock: bool = False,
) -> File:
    """The uploaded file with one of ``purposes``, of which the first is told of; else raises BadRequest.

    ``lock``: it stays as long as the transaction does.
    """
    file = repository.find(session, project_id, file_id, lock=lock) if file_id else None
    if file is None:
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(file_id)}. The file does not exist; upload it "
            f"with POST /v1/files and purpose '{purposes[0]}'and give its id.",
            param=param,
            code="file_not_found",
        )
    if file.purpose not in purposes or file.rows is None:
        wanted = " or ".join(f"'{one}'" for one in purposes)
        raise BadRequest(
            f"Invalid value for '{param}': {abbreviated(file_id)} has the purpose '{file.purpose}'; it "
            f"should be {wanted}.",
            param=param,
        )
    return file


def check_method(file: File, method: Method, param: str) -> None:
    """Raise BadRequest naming ``param`` where the method cannot learn from the file's rows."""
    unfit = file.unfit
    if unfit is None:
        unfit = check_training_file(storage.local_path(file), get_settings().max_line_bytes).unfit
    if problem := unfit.get(method):
        raise BadRequest(
            f"Invalid value for '{param}': the rows of {file.id} do not suit a {method} job. {problem}",
            param=param,
            code="invalid_file",
        )


def retrieve(project_id: str, file_id: str) -> File:
    """The file; raises NotFound."""
    with read_session() as session:
        return _found(repository.find(session, project_id, file_id), file_id)


def content(project_id: str, file_id: str) -> tuple[File, Path]:
    """The file and where its bytes are."""
    file = retrieve(project_id, file_id)
    gone = NotFound(f"The bytes of file '{file_id}' are no longer in storage.", param="file_id")
    try:
        path = storage.local_path(file)
    except NotStored:
        raise gone from None
    if not path.is_file():
        raise gone
    return file, path


def signed_url(project_id: str, file_id: str) -> str:
    """An address of the store's that gives the file's bytes. Raises NotFound, and BadRequest without one."""
    url = storage.signed_url(retrieve(project_id, file_id))
    if url is None:
        raise BadRequest(
            "Invalid value for 'redirect': true. This service keeps files on disk, not in a store that "
            "signs addresses; leave it out.",
            param="redirect",
        )
    return url


def listing(
    project_id: str, *, after: str | None, limit: int, order: Literal["asc", "desc"], purpose: str | None
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The shown columns of up to ``limit`` + 1 files."""
    with read_session() as session:
        cursor = None
        if after is not None and (cursor := repository.find(session, project_id, after)) is None:
            raise unknown_cursor(after)
        return repository.listing(
            session, project_id, after=cursor, limit=limit + 1, order=order, purpose=purpose
        )


def delete(project_id: str, file_id: str) -> None:
    """Remove a file that no unfinished job needs; raises NotFound or Conflict."""
    with write_session() as session:
        # Locked: a job that is being created with this file holds the same lock until it is committed.
        query = select(File).where(File.id == file_id, File.project_id == project_id).with_for_update()
        file = _found(session.scalars(query).first(), file_id)
        user = repository.unfinished_user(session, file_id)
        if user is not None:
            what, name = user
            raise Conflict(
                f"File '{file_id}' is used by {what} '{name}', which has not finished. Cancel the {what} "
                "first.",
                param="file_id",
                code="file_in_use",
            )
        session.delete(file)
        record(session, "file.deleted", file_id, project_id, filename=file.filename)
    storage.remove(file_id)


def _check_quota(session: Session, project_id: str, size: int) -> None:
    check_storage(session, project_id, size)
    settings = get_settings()
    count, used = repository.uploaded(session, project_id)
    if settings.project_max_files and count >= settings.project_max_files:
        raise Forbidden(
            f"The project has {count} uploaded files; its limit is {settings.project_max_files}. Delete "
            "some first.",
            param="file",
            code="quota_exceeded",
        )
    if settings.project_max_file_bytes and used + size > settings.project_max_file_bytes:
        raise Forbidden(
            f"The project's uploaded files have {used} bytes; with {size} more they would be over "
            f"{settings.project_max_file_bytes}, the most they may have together. Delete some first.",
            param="file",
            code="quota_exceeded",
        )


def _add(session: Session, project_id: str, filename: str, purpose: str, stored: StoredFile) -> File:
    file = File(
        id=stored.id,
        project_id=project_id,
        created_at=time.time(),
        filename=filename,
        purpose=purpose,
        bytes=stored.bytes,
        sha256=stored.sha256,
    )
    session.add(file)
    return file


def _filename(sent: str) -> str:
    """The last part of the name that the client sent, without characters that no header can carry."""
    name = sent.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character for character in name if character.isprintable())
    return "upload.jsonl" if printable in ("", ".", "..") else printable[:255]


def _found(file: Any, file_id: str) -> File:
    if file is None:
        raise NotFound(f"No such file: '{file_id}'.", param="file_id")
    return file
