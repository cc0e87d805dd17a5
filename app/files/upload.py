"""Multipart uploads, taken apart as they arrive: memory stays bounded whatever the file's size."""

import re
from contextlib import suppress

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import BadRequest, TooLarge
from app.core.settings import get_settings
from app.core.strict_json import BadJson, parse
from app.files.storage import Writing

_MAX_FIELD_BYTES = 16 << 10
_MAX_FIELDS = 24
#: RFC 2046 has 70; the parser takes so many.
_MAX_BOUNDARY_BYTES = 256
#: ``metadata[key]`` and the like.
_NESTED = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
# What a form has around its file: boundaries, part headers, the other fields.
FORM_OVERHEAD = 64 << 10


class Upload:
    """A received form: its text fields and its one file, finished but not kept."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.json_fields: set[str] = set()
        self.filename = ""
        self.file: Writing | None = None

    def nested(self) -> dict[str, object]:
        """The fields: those called ``name[key]`` as an object ``name``, as the SDK sends such, and those of
        the content type JSON, which is what OpenAPI makes of an object in a form, as what they say."""
        found: dict[str, object] = {}
        for name, value in self.fields.items():
            inside = _NESTED.fullmatch(name)
            if inside is None:
                found[name] = _parsed(name, value) if name in self.json_fields else value
                continue
            of_name = found.setdefault(inside[1], {})
            if not isinstance(of_name, dict):
                raise BadRequest(
                    f"The part {inside[1][:80]!r} appears twice; send it once.", param=inside[1][:80]
                )
            of_name[inside[2]] = value
        return found

    def discard(self) -> None:
        if self.file is not None:
            self.file.discard()


async def receive(request: Request) -> Upload:
    """Read a ``multipart/form-data`` body. The caller keeps or discards the result."""
    limit = get_settings().max_upload_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + FORM_OVERHEAD:
        raise _too_large(limit)
    form = _Form(request.headers.get("content-type", ""), limit)
    try:
        async for chunk in request.stream():
            await run_in_threadpool(form.feed, chunk)
        await run_in_threadpool(form.finish)
    except BaseException:
        form.upload.discard()
        raise
    return form.upload


class _Form:
    """Callbacks of the parser, and the part that is being read."""

    def __init__(self, content_type: str, limit: int):
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest(
                f"The content type is {content_type[:100]!r}; upload a file as multipart/form-data "
                "with the parts 'purpose' and 'file'."
            )
        if len(boundary) > _MAX_BOUNDARY_BYTES:
            raise BadRequest(
                f"The boundary of the multipart form has {len(boundary)} bytes; it may have at most "
                f"{_MAX_BOUNDARY_BYTES}.",
                param="content-type",
            )
        self.upload = Upload()
        self._limit = limit
        self._ended = False
        self._header_name = self._header_value = self._disposition = self._content_type = b""
        self._part = ""
        self._in_file = False
        self._text = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequest(f"The body is not a valid multipart form: {error}.") from None

    def finish(self) -> None:
        with suppress(FormParserError):
            self._parser.finalize()
        if not self._ended:
            raise BadRequest("The body is not a valid multipart form: it ends before its closing boundary.")
        if self.upload.file is not None:
            self.upload.file.finish()

    def _part_begin(self) -> None:
        self._disposition = self._content_type = b""

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        if self._header_name.lower() == b"content-type":
            self._content_type = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = b"filename" in options
        self._text = b""
        if self._part in self.upload.fields or (self._in_file and self.upload.file is not None):
            raise BadRequest(
                f"The part {self._part[:80]!r} appears twice; send it once.", param=self._part[:80]
            )
        if self._in_file:
            if self._part != "file":
                raise BadRequest(
                    f"Unknown parameter: '{self._part[:80]}' is a file; the part with the file must be "
                    "named 'file'.",
                    param=self._part[:80],
                    code="unknown_parameter",
                )
            self.upload.filename = options[b"filename"].decode("utf-8", "replace")
            self.upload.file = Writing()
        elif len(self.upload.fields) >= _MAX_FIELDS:
            raise BadRequest(f"The form has more than {_MAX_FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._text += data[start:end]
            if len(self._text) > _MAX_FIELD_BYTES:
                raise BadRequest(
                    f"'{self._part[:80]}' is longer than {_MAX_FIELD_BYTES} bytes.", param=self._part[:80]
                )
            return
        assert self.upload.file is not None
        if self.upload.file.size + end - start > self._limit:
            raise _too_large(self._limit)
        self.upload.file.write(data[start:end])

    def _part_end(self) -> None:
        if not self._in_file:
            self.upload.fields[self._part] = self._text.decode("utf-8", "replace")
            if parse_options_header(self._content_type)[0] == b"application/json":
                self.upload.json_fields.add(self._part)

    def _end(self) -> None:
        self._ended = True


def _parsed(name: str, text: str) -> object:
    try:
        return parse(text.encode())
    except BadJson as error:
        raise BadRequest(f"Invalid value for '{name[:80]}': {error}.", param=name[:80]) from None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The file is larger than this server's limit of {limit} bytes.", param="file")
