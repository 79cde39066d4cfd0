"""The one file of a multipart/form-data body, as it arrives: nothing is spooled, whatever its size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from deployments.ingress.body import refuse_compressed
from pipeline.errors import ClientError, InvalidField, Shown, TooLarge

#: Bytes of a body beyond the file itself: boundaries, headers, other fields (which are not looked at).
OVERHEAD_BYTES = 64 * 1024
_RULE = "multipart/form-data with a boundary"


class InvalidForm(ClientError):
    """The multipart body is not well-formed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedFile:
    """A file on its way in."""

    #: As sent.
    name: str
    #: As sent, may be empty.
    content_type: str
    #: It cannot be larger, by the announced size of the body or else by the limit.
    most_bytes: int
    #: Ends only if the rest of the body was well-formed too: who has seen the end has the whole file.
    chunks: AsyncIterator[bytes]


async def uploaded_file(request: Request, *, max_file_bytes: int) -> UploadedFile:
    """The file in a request's body. Any part that has a file name is one; its field may have any name (contract §5).

    Raises:
        InvalidField: not a multipart body, or without a file.
        TooLarge: announced, or (from ``chunks``) found to be larger than a body with such a file can be.
        UnsupportedMediaType: compressed.
        InvalidForm: not well-formed, or with a second file. From ``chunks`` too.
        ClientDisconnect: from ``chunks`` too.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    refuse_compressed(request)
    most = max_file_bytes + OVERHEAD_BYTES
    announced = request.headers.get("content-length", "")
    size = int(announced[:20]) if announced.isdecimal() else most
    if size > most:
        raise TooLarge(f"the file is too large, allowed are {max_file_bytes} bytes")
    form = _Form(request.stream(), boundary, most_bytes=most)
    return await form.file(most_bytes=max(1, min(size, max_file_bytes)))


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise InvalidField("Content-Type", Shown(kind.decode("latin-1")[:80] or "nothing"), _RULE)
    return boundary


class _Form:
    """Drives the parser, whose callbacks are synchronous, and hands on what they gathered."""

    def __init__(self, stream: AsyncIterator[bytes], boundary: bytes, *, most_bytes: int) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._size = 0
        self._fields_size = 0
        self._found: tuple[str, str] | None = None
        self._in_file = False
        self._is_complete = False
        self._data: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    async def file(self, *, most_bytes: int) -> UploadedFile:
        while self._found is None:
            if not await self._advance():
                raise InvalidField("file", Shown("nothing"), "a file: a form field with a file name")
        name, content_type = self._found
        return UploadedFile(name=name, content_type=content_type, most_bytes=most_bytes, chunks=self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            data, self._data = self._data, []
            for piece in data:
                yield piece
            if not await self._advance():
                return

    async def _advance(self) -> bool:
        """Parse one more chunk of the body. False at its end."""
        chunk = await anext(self._stream, None)
        if chunk is None:
            if not self._is_complete:
                raise InvalidForm("the multipart body ends before its last boundary")
            return False
        self._size += len(chunk)
        if self._size > self._most_bytes:
            raise TooLarge(f"the request body is too large, allowed are {self._most_bytes} bytes")
        try:
            self._parser.write(chunk)
        except FormParserError:
            # Its message shows bytes of the body.
            raise InvalidForm from None
        return True

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        # A form whose user chose no file sends an empty name.
        name = options.get(b"filename", b"").decode("utf-8", "replace")
        if not name:
            return
        if self._found is not None:
            raise InvalidForm("the multipart body has a second file, allowed is one")
        self._found = (name, self._headers.get(b"content-type", b"").decode("latin-1"))
        self._in_file = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._data.append(data[start:end])
            return
        self._fields_size += end - start
        if self._fields_size > OVERHEAD_BYTES:
            raise InvalidForm(f"the multipart body has more than {OVERHEAD_BYTES} bytes beside its file")

    def _on_part_end(self) -> None:
        self._in_file = False

    def _on_end(self) -> None:
        self._is_complete = True
