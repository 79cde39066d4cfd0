"""file-svc: upload, list, serve, download by URL, delete (contract §5). Every route is the caller's own files only."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.accepted import Only
from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.downloader import Downloader
from deployments.ingress.fields import Integer, Text, WireModel
from deployments.ingress.file_response import file_response
from deployments.ingress.file_svc_operations import (
    DELETE,
    DOWNLOAD,
    DOWNLOADS,
    GET_DOWNLOAD,
    SERVE,
    SERVE_DOWNLOAD,
    UPLOAD,
    UPLOADS,
)
from deployments.ingress.multipart import uploaded_file
from deployments.ingress.operation import TIME, Operation
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.wire import timestamp
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.files.file_store import FileStore
from pipeline.files.record import FileRecord
from pipeline.query import nanoseconds

DEFAULT_LIMIT = 100
MOST = 1000
_AFTER_RULE = "the createdAt of an upload"


class ListUploads(WireModel):
    """The body of POST /file-svc/uploads. ``limit`` 0 is the default, as if it were absent."""

    user_id: Text | None = None
    limit: Annotated[Integer, Field(ge=0, le=MOST, description=f"an integer from 1 to {MOST}")] = 0
    after: Annotated[
        Text,
        Only({"anyOf": [TIME, {"const": ""}]}),
        Field(description=_AFTER_RULE),
    ] = ""


class DownloadFile(WireModel):
    """The body of PUT /file-svc/download. ``folderPath``, a place on the original's disk, is not looked at."""

    url: Annotated[Text, Field(description="an https URL")]


class FileSvc:
    """The endpoints of file-svc."""

    def __init__(self, files: FileStore, downloader: Downloader, *, max_body_bytes: int) -> None:
        self._files = files
        self._downloader = downloader
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/file-svc", gate)
        lists = Operation(request=ListUploads, response=UPLOADS)

        return [
            route("PUT", "/upload", self.upload, Permission.FILE_UPLOAD_CREATE, UPLOAD),
            route("POST", "/uploads", self.uploads, Permission.FILE_UPLOAD_VIEW, lists),
            route("GET", "/serve/upload/{file_id}", self.serve_upload, Permission.FILE_UPLOAD_VIEW, SERVE),
            route("DELETE", "/upload/{file_id}", self.delete, Permission.FILE_UPLOAD_DELETE, DELETE),
            route("PUT", "/download", self.download, Permission.FILE_DOWNLOAD_CREATE, DOWNLOAD),
            route("GET", "/download/{url}", self.get_download, Permission.FILE_DOWNLOAD_VIEW, GET_DOWNLOAD),
            route("POST", "/downloads", self.downloads, Permission.FILE_DOWNLOAD_VIEW, DOWNLOADS),
            route("GET", "/serve/download/{url}", self.serve_download, Permission.FILE_DOWNLOAD_VIEW, SERVE_DOWNLOAD),
        ]

    async def upload(self, request: Request) -> Response:
        """Keep the file of a form. It is written as it arrives; nothing of it stays unless all of it came."""
        sent = await uploaded_file(request, max_file_bytes=self._files.limits.file_bytes)
        record = await self._files.put(
            principal(request).user_id, sent.chunks, sent.content_type, sent.name, most_bytes=sent.most_bytes
        )
        return _json({"upload": upload_object(record)})

    async def uploads(self, request: Request) -> Response:
        """The caller's uploads, newest first. Admins may ask for somebody else's and see all but the names; for everybody
        else another user has no uploads, like one who does not exist."""
        caller = principal(request)
        asked = ListUploads.parse(await read_json(request, max_bytes=self._max_body_bytes))
        before_us = _microseconds(asked.after) if asked.after else 0
        owner = asked.user_id or caller.user_id
        if owner != caller.user_id and not caller.is_admin:
            return _json({"uploads": []})
        page = await self._files.uploads(owner, limit=asked.limit or DEFAULT_LIMIT, before_us=before_us)
        return _json({"uploads": [upload_object(r, with_name=owner == caller.user_id) for r in page]})

    async def serve_upload(self, request: Request) -> Response:
        """The bytes of one of the caller's files, or a range of them."""
        record = await self._files.get(principal(request).user_id, request.path_params["file_id"])
        return file_response(request, self._files, record)

    async def delete(self, request: Request) -> Response:
        """Delete an upload, or what was downloaded (its file id is the ``filePath`` of the download)."""
        await self._files.delete(principal(request).user_id, request.path_params["file_id"])
        return _json({})

    async def download(self, request: Request) -> Response:
        """Fetch a public image and keep it; answers when it is there.

        400 where downloads are switched off, and for whatever goes wrong at the other side.

        Raises:
            DownloadFailed: it does not say why.
        """
        self._downloader.check_enabled()
        asked = DownloadFile.parse(await read_json(request, max_bytes=self._max_body_bytes))
        await self._downloader.download(self._files, principal(request).user_id, asked.url)
        return _json({})

    async def get_download(self, request: Request) -> Response:
        """What the caller has downloaded from a URL."""
        record = await self._downloaded(request)
        return _json({"exists": record is not None, "download": record and download_object(record)})

    async def downloads(self, request: Request) -> Response:
        """The caller's downloads."""
        # The body has nothing to say, but a broken one is still refused.
        await read_json(request, max_bytes=self._max_body_bytes)
        records = await self._files.downloads(principal(request).user_id)
        return _json({"downloads": [download_object(record) for record in records]})

    async def serve_download(self, request: Request) -> Response:
        """The bytes of what the caller has downloaded from a URL, or a range of them."""
        record = await self._downloaded(request)
        if record is None:
            raise NotFound
        return file_response(request, self._files, record)

    async def _downloaded(self, request: Request) -> FileRecord | None:
        return await self._files.by_url(principal(request).user_id, request.path_params["url"])


def upload_object(record: FileRecord, *, with_name: bool = True) -> dict[str, Any]:
    """The Upload object: exactly the keys that the Go client knows (contract §0.8). Where the original tells a path on its
    disk, and a node, we tell the id, and nothing."""
    created = timestamp(record.created_us)
    return {
        "id": f"upl-{record.id.removeprefix('file-')}",
        "fileId": record.id,
        "fileName": record.name if with_name else "",
        "filePath": record.id,
        "fileSize": record.size,
        "nodeId": "",
        "userId": record.user_id,
        "createdAt": created,
        "updatedAt": created,
    }


def download_object(record: FileRecord) -> dict[str, Any]:
    """The Download object. Only what came whole is kept, so every one is completed."""
    created = timestamp(record.created_us)
    return {
        "id": f"dl-{record.id.removeprefix('file-')}",
        "url": record.url,
        "fileName": record.name,
        "filePath": record.id,
        "fileSize": record.size,
        "downloadedBytes": record.size,
        "progress": 100,
        "status": "completed",
        "createdAt": created,
        "updatedAt": created,
    }


def _microseconds(time: str) -> int:
    nanos = nanoseconds(time)
    if nanos is None:
        raise InvalidField("after", Shown("another text"), _AFTER_RULE)
    return max(1, nanos // 1000)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
