"""A stored file as an HTTP response: its bytes piece by piece, and headers that keep a browser from running it."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.ingress.errors import error_body
from deployments.ingress.ranges import NotSatisfiable, Span, requested_span
from pipeline.files.content import RASTER_TYPES
from pipeline.files.file_store import FileStore
from pipeline.files.names import content_disposition
from pipeline.files.record import FileRecord


def file_response(request: Request, files: FileStore, record: FileRecord) -> Response:
    """200 with the file, 206 with the range asked for, or 416. A file never changes, so its id is its ETag."""
    etag = f'"{record.id}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        # Deleted means gone.
        "Cache-Control": "private, no-store",
        # Whatever a user uploaded, it does not act in our origin (SECURITY §2.5); nosniff comes with every reply.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": content_disposition(
            "inline" if record.content_type in RASTER_TYPES else "attachment", record.name
        ),
    }
    span = None
    if request.headers.get("if-range", etag) == etag:
        try:
            span = requested_span(request.headers.get("range", ""), record.size)
        except NotSatisfiable:
            return error_body(
                416, f"Range: the file has {record.size} bytes", {"Content-Range": f"bytes */{record.size}"}
            )
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{record.size}"
    return _FileResponse(files, record, span, headers)


class _FileResponse(Response):
    """Sends one piece at a time. (Serve's proxy keeps what a slow client has not taken: at most the file.)"""

    def __init__(self, files: FileStore, record: FileRecord, span: Span | None, headers: dict[str, str]) -> None:
        self._files = files
        self._record = record
        self._span = span or Span(start=0, stop=record.size)
        length = {"Content-Length": str(self._span.stop - self._span.start)}
        # The type as it is: Starlette would add a charset, which nobody knows.
        super().__init__(
            status_code=200 if span is None else 206,
            headers={**headers, **length, "Content-Type": record.content_type},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        async with aclosing(self._files.read(self._record, self._span.start, self._span.stop)) as pieces:
            # Before the headers are out a file that is gone can still be said to be.
            piece = await anext(pieces, b"")
            await send(start)
            while piece:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await anext(pieces, b"")
        await send({"type": "http.response.body", "body": b""})
