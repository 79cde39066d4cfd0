"""Pictures that a prompt starts from: fetched where the prompt names a URL, and looked at before the prompt is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from deployments.ingress.auth import Permission
from deployments.ingress.downloader import Downloader
from deployments.ingress.grants import Grants
from deployments.ingress.principal import Principal
from pipeline.errors import InvalidField, Shown, Unauthorized
from pipeline.files.file_store import FileStore
from pipeline.files.images import MOST_BYTES, ImageReader, ImageRefused
from pipeline.files.record import FileRecord
from pipeline.submission import PromptSubmission


class ImageSources:
    """The files of image prompts, before they are accepted."""

    def __init__(self, files: FileStore, downloader: Downloader, grants: Grants) -> None:
        self._files = files
        self._downloader = downloader
        self._grants = grants
        self._images = ImageReader()

    async def fetched(self, caller: Principal, submission: PromptSubmission) -> PromptSubmission:
        """The submission with the picture behind its URL among its files, kept as a download of the caller's.

        Raises:
            Unauthorized: the caller may not download.
            DownloadsOff, UrlRefused, DownloadFailed, …: as ``Downloader.download``.
        """
        if submission.image_url is None:
            return submission
        if not await self._grants.allow(caller, Permission.FILE_DOWNLOAD_CREATE):
            raise Unauthorized
        record = await self._downloader.download(self._files, caller.user_id, submission.image_url)
        return replace(submission, file_ids=(*submission.file_ids, record.id), image_url=None)

    async def check(self, files: Sequence[FileRecord]) -> None:
        """Whether a picture can be painted from these files: there must be one, an image that can be decoded.

        Raises:
            InvalidField: of ``fileIds``.
            ImageRefused: names what is wrong with the image.
            ImageTooSlow, FilesUnavailable, BlobMissing: it cannot be told.
        """
        if len(files) != 1:
            raise InvalidField("fileIds", Shown(f"{len(files)} files"), "one image to start from")
        (file,) = files
        if file.size > MOST_BYTES:
            raise ImageRefused(f"fileIds: the image has {file.size} bytes, allowed are {MOST_BYTES}")
        async with aclosing(self._files.read(file)) as pieces:
            data = b"".join([piece async for piece in pieces])
        try:
            await self._images.read(data)
        except ImageRefused as refused:
            raise ImageRefused(f"fileIds: {refused.message}") from None
