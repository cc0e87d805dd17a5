"""Who is asking: the project that a request belongs to (``app.keys.require_key`` finds it)."""

from typing import Annotated

from fastapi import Depends, Request

#: Paths that show nothing of any project; so do the files of the two pages, and the way in.
PUBLIC = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
PUBLIC_FOLDERS = ("/dashboard/", "/docs/", "/auth/")


def is_public(path: str) -> bool:
    """Whether a path is for everybody, also without a key."""
    return path in PUBLIC or path.startswith(PUBLIC_FOLDERS)


async def current_project(request: Request) -> str:
    """The id of the caller's project."""
    return request.state.project


ProjectId = Annotated[str, Depends(current_project)]
