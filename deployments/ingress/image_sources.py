"""Pictures that a prompt starts from: fetched where the prompt names a URL, and looked at before the prompt is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol

from deployments.ingress.auth import Permission
from deployments.ingress.downloader import Downloader
from deployments.ingress.grants import Grants
from deployments.ingress.principal import Principal
from pipeline.errors import ClientError, InvalidField, NotFound, Shown, Unauthorized
from pipeline.files.file_store import FileStore
from pipeline.files.images import DEADLINE_S, MOST_BYTES, THREADS, ImageReader, ImageRefused, ImageTooSlow
from pipeline.files.record import FileRecord
from pipeline.prompt import Prompt
from pipeline.store.connection import translated_errors
from pipeline.submission import PromptSubmission

#: Files held in memory at the same time: those that are decoded, and as many that are read meanwhile.
_MOST_HELD = 2 * THREADS


class PromptLookup(Protocol):
    """Of the prompts' store, what it takes."""

    async def get(self, user_id: str, prompt_id: str) -> Prompt | None: ...


class ImageSources:
    """The files of image prompts, before they are accepted."""

    def __init__(self, files: FileStore, downloader: Downloader, grants: Grants, prompts: PromptLookup) -> None:
        self._files = files
        self._downloader = downloader
        self._grants = grants
        self._prompts = prompts
        self._images = ImageReader()
        self._held = asyncio.Semaphore(_MOST_HELD)

    @asynccontextmanager
    async def fetched(self, caller: Principal, submission: PromptSubmission) -> AsyncGenerator[PromptSubmission, None]:
        """The submission with the picture behind its URL among its files. Each prompt has a file of its own there, however often
        the URL is named: what it shows may change, and no other prompt takes it away. If the block refuses the prompt, the file
        is deleted.

        Raises:
            Unauthorized: the caller may not download.
            DownloadsOff, UrlRefused, DownloadFailed, …: as ``Downloader.download``.
        """
        url = submission.image_url
        if url is None:
            yield submission
            return
        if not await self._grants.allow(caller, Permission.FILE_DOWNLOAD_CREATE):
            raise Unauthorized
        sent_before = await self._sent_before(caller, submission)
        if sent_before is not None:
            yield replace(submission, file_ids=sent_before, image_url=None)
            return
        record = await self._downloader.download(self._files, caller.user_id, url, in_place=False)
        try:
            yield replace(submission, file_ids=(*submission.file_ids, record.id), image_url=None)
        except ClientError:
            with suppress(NotFound):
                await self._files.delete(caller.user_id, record.id)
            raise

    async def _sent_before(self, caller: Principal, submission: PromptSubmission) -> tuple[str, ...] | None:
        """The files of the same prompt if it is there already: its sender did not hear of it, and tries again."""
        if submission.id is None:
            return None
        with translated_errors():
            stored = await self._prompts.get(caller.user_id, submission.id)
        return None if stored is None else stored.file_ids or None

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
        await self._take()
        try:
            async with aclosing(self._files.read(file)) as pieces:
                data = b"".join([piece async for piece in pieces])
            await self._images.read(data)
        except ImageRefused as refused:
            raise ImageRefused(f"fileIds: {refused.message}") from None
        finally:
            self._held.release()

    async def _take(self) -> None:
        """Wait for room in memory: a thousand small requests may name a large file each."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._held.acquire()
        except TimeoutError:
            raise ImageTooSlow from None
