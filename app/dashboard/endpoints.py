"""``/``, ``/docs`` and their files, the same for everybody. What they show comes from the API."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.core.errors import NotFound
from app.dashboard.assets import PREFIX, Asset, Site, site
from app.dashboard.reference import PREFIX as REFERENCE
from app.dashboard.reference import reference

router = APIRouter(include_in_schema=False)

_SHARED_POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "font-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
]
#: Nothing from elsewhere, nothing inline, nothing that could turn text into markup.
_POLICY = "; ".join([*_SHARED_POLICY, "style-src 'self'", "require-trusted-types-for 'script'"])
#: Swagger UI writes styles into its elements, and makes markup of what it has cleaned.
_REFERENCE_POLICY = "; ".join([*_SHARED_POLICY, "style-src 'self' 'unsafe-inline'"])
_HEADERS = {"cross-origin-opener-policy": "same-origin", "vary": "accept-encoding"}
_FOREVER = "public, max-age=31536000, immutable"


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The dashboard."""
    return _answer(request, site().index, "no-cache", _POLICY)


@router.api_route(PREFIX + "{digest}/{name:path}", methods=["GET", "HEAD"])
async def file(digest: str, name: str, request: Request) -> Response:
    """One of its files, which never changes under its address."""
    return _answer(request, _file(site(), digest, name), _FOREVER, _POLICY)


# Not on the event loop: the first request packs two megabytes.
@router.api_route(REFERENCE.rstrip("/"), methods=["GET", "HEAD"])
def reference_page(request: Request) -> Response:
    """The API's description."""
    return _answer(request, reference().index, "no-cache", _REFERENCE_POLICY)


@router.api_route(REFERENCE + "{digest}/{name}", methods=["GET", "HEAD"])
def reference_file(digest: str, name: str, request: Request) -> Response:
    """One of its files, likewise."""
    return _answer(request, _file(reference(), digest, name), _FOREVER, _REFERENCE_POLICY)


def _file(of: Site, digest: str, name: str) -> Asset:
    found = of.files.get(name) if digest == of.digest else None
    if found is None:
        raise NotFound("There is no such file of this page: load the page again.", code="unknown_url")
    return found


def _answer(request: Request, asset: Asset, caching: str, policy: str) -> Response:
    headers = {**_HEADERS, "cache-control": caching, "content-security-policy": policy}
    if asset.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(asset.zipped, media_type=asset.media_type, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
