"""``/v1/files``."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, StreamingResponse

from app.core.auth import ProjectId
from app.core.description import ListOf, answers, answers_text
from app.core.paging import After, page
from app.core.parameters import FileId
from app.core.requests import StrictRoute
from app.core.scopes import READ, TRAIN, needs
from app.files import service
from app.files.schemas import FileDeleted, FileObject, file_dict, file_object, form_properties
from app.files.storage import chunks
from app.files.upload import FORM_OVERHEAD, receive

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=StrictRoute)

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "additionalProperties": False,
                    "properties": {
                        **form_properties(),
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSONL: one object per line, in the method's format",
                        },
                    },
                }
            }
        },
    }
}


@router.post("", **needs("train", described=_FORM))
async def create_file(request: Request, project: ProjectId) -> FileObject:
    """Upload a JSONL file.

    Every line is checked before the file is accepted; an error names the line.
    """
    declared = request.headers.get("content-length", "")
    at_least = max(0, int(declared) - FORM_OVERHEAD) if declared.isdigit() else 0
    # A first look, before the bytes come; the exact size is asked about at the end.
    await run_in_threadpool(service.check_quota, project, at_least)
    upload = await receive(request)
    return file_object(await run_in_threadpool(service.create, project, upload))


@router.get("", **answers(ListOf[FileObject]), **READ)
def list_files(
    project: ProjectId,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Files per page")] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first")] = "desc",
    purpose: Annotated[
        str | None,
        Query(description="fine-tune: uploads; fine-tune-results: files written by jobs; default: all"),
    ] = None,
) -> Response:
    """List files, newest first."""
    files = service.listing(project, after=after, limit=limit, order=order, purpose=purpose)
    return page([file_dict(*file) for file in files], limit)


@router.get("/{file_id}", **READ)
def retrieve_file(file_id: FileId, project: ProjectId) -> FileObject:
    """Get a file's name, size and hash."""
    return file_object(service.retrieve(project, file_id))


@router.get("/{file_id}/content", **answers_text("The bytes", "application/jsonl", "text/csv"), **READ)
def retrieve_content(
    file_id: FileId,
    project: ProjectId,
    redirect: Annotated[
        bool, Query(description="Answer with 307 and an address in the store, valid for five minutes")
    ] = False,
) -> Response:
    """Download the bytes of a file."""
    if redirect:
        return RedirectResponse(service.signed_url(project, file_id))
    file, path = service.content(project, file_id)
    return StreamingResponse(
        chunks(path),
        media_type="text/csv" if file.filename.endswith(".csv") else "application/jsonl",
        headers={
            "content-length": str(file.bytes),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        },
    )


@router.delete("/{file_id}", **TRAIN)
def delete_file(file_id: FileId, project: ProjectId) -> FileDeleted:
    """Delete a file that no unfinished job uses."""
    service.delete(project, file_id)
    return FileDeleted(id=file_id)
