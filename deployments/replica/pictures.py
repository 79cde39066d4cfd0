"""Pictures: from a claimed prompt through the painter into files, and with the end of the prompt into its answer.

A file becomes the user's in the script that completes the prompt, or never: what an attempt leaves that died or lost its lease is
removed by it, or by whoever sweeps.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import orjson
from PIL.Image import Image

from deployments.replica import persist as persisting
from deployments.replica.attempt_log import AttemptLog
from deployments.replica.persist import persist
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.engine import ImageRequest, Painted, Painter, PaintStep
from pipeline.errors import EngineError, PermanentEngineError, ServerError, StoreUnavailable
from pipeline.files.file_store import FileStore
from pipeline.files.images import ImageReader, ImageRefused
from pipeline.files.pictures import describe_parameters, encode
from pipeline.files.record import FileTooLarge, MadeFile, QuotaExceeded
from pipeline.files.threads import Threads
from pipeline.ids import new_id
from pipeline.image_parameters import ImageTask
from pipeline.store.attempts import AttemptStore, Claimed, PicturesWanted

T = TypeVar("T")

#: Pictures encoded at the same time.
THREADS = 2


class Pictures:
    """The ``Work`` of an image model."""

    def __init__(
        self, *, store: AttemptStore, painter: Painter, files: FileStore, model_id: str, metadata: bool = True
    ) -> None:
        """
        Args:
            metadata: whether parameters are written into PNG files.
        """
        self._store = store
        self._painter = painter
        self._files = files
        self._model_id = model_id
        self._metadata = metadata
        self._images = ImageReader()
        self._threads = Threads(THREADS, "pictures")

    @property
    def fingerprint(self) -> str:
        return self._painter.fingerprint

    async def answer(self, claimed: Claimed, log: AttemptLog) -> bool:
        wanted = claimed.pictures
        if wanted is None:
            raise PermanentEngineError("the prompt is not one for an image model")
        if claimed.shown:
            # Half a picture is of no use to another attempt.
            await log.append_now(Delta(kind=DeltaKind.RESTART))
        request = ImageRequest(
            request_id=f"{new_id('att')}-{claimed.fence}",
            parameters=wanted.parameters,
            source=await self._source(wanted),
        )
        made: dict[int, MadeFile] = {}
        painted: dict[int, Painted] = {}
        recorded = False
        try:
            async with aclosing(self._painter.paint(request)) as events:
                async for event in events:
                    if isinstance(event, PaintStep):
                        log.put(_step(event))
                    else:
                        made[event.index] = await self._make(wanted, event)
                        painted[event.index] = event
            if len(made) != wanted.parameters.images:
                raise EngineError("the engine ended without all pictures")
            recorded = await self._finish(claimed, wanted, log, painted, made)
        finally:
            if not recorded:
                await self._unmake(list(made.values()))
        return recorded

    async def _source(self, wanted: PicturesWanted) -> Image | None:
        """The picture to start from. It was looked at when the prompt was accepted; it may have been deleted since."""
        if wanted.parameters.task is not ImageTask.IMAGE:
            return None
        files = await _patiently(lambda: self._files.find(wanted.user_id, wanted.file_ids))
        if len(files) != 1 or files[0] is None:
            raise PermanentEngineError("the image to start from is not there any more")
        try:
            async with aclosing(self._files.read(files[0])) as pieces:
                data = b"".join([piece async for piece in pieces])
            return await self._images.read(data)
        except ImageRefused as refused:
            raise PermanentEngineError(refused.message) from None
        except ServerError as error:
            raise EngineError(f"the image to start from cannot be read: {error.message}") from None

    async def _make(self, wanted: PicturesWanted, painted: Painted) -> MadeFile:
        parameters = wanted.parameters
        text = ""
        if self._metadata:
            text = describe_parameters(
                parameters,
                seed=painted.seed,
                size=painted.image.size,
                model_id=self._model_id,
                scheduler=painted.scheduler,
            )
        data = await self._threads.run(encode, painted.image, parameters, text=text)
        name = f"{wanted.prompt_id}-{painted.index + 1}{parameters.format.suffix}"
        media_type = parameters.format.media_type
        try:
            return await _patiently(lambda: self._files.make(wanted.user_id, data, media_type, name))
        except (QuotaExceeded, FileTooLarge) as error:
            raise PermanentEngineError(f"the picture cannot be kept: {error.message}") from None
        except ServerError as error:
            raise EngineError(f"the picture cannot be kept: {error.message}") from None

    async def _unmake(self, made: list[MadeFile]) -> None:
        """What cannot be removed now (the store is away) is left to be swept; ``FileStore`` logs it."""
        await self._files.unmake(made)

    async def _finish(
        self,
        claimed: Claimed,
        wanted: PicturesWanted,
        log: AttemptLog,
        painted: dict[int, Painted],
        made: dict[int, MadeFile],
    ) -> bool:
        """The last script. A step that is not written yet is not news any more."""
        await log.unwritten()
        parameters = wanted.parameters
        order = sorted(made)
        meta = {
            "modelId": self._model_id,
            "finishReason": FinishReason.STOP,
            "images": [{"fileId": made[index].id, "seed": painted[index].seed} for index in order],
            "steps": parameters.steps,
            "guidanceScale": parameters.guidance_scale,
            "scheduler": parameters.scheduler or painted[order[0]].scheduler,
            "paintSeconds": round(max(picture.seconds for picture in painted.values()), 3),
        }
        if any(picture.cut_short for picture in painted.values()):
            meta["promptCutShort"] = True
        text = "Here is your image." if len(order) == 1 else f"Here are your {len(order)} images."
        message_id = new_id("msg")
        return await persist(
            lambda: self._store.finish(
                claimed.ref,
                claimed.fence,
                message_id=message_id,
                text=text,
                meta_json=orjson.dumps(meta).decode(),
                end=Delta(kind=DeltaKind.END, text=text, finish_reason=FinishReason.STOP),
                files=[made[index] for index in order],
                entries=log.written,
            )
        )

    def close(self) -> None:
        self._threads.close()
        self._images.close()


def _step(event: PaintStep) -> Delta:
    preview = base64.b64encode(event.preview).decode()
    return Delta(kind=DeltaKind.STEP, step=event.step, steps=event.steps, preview=preview)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """As ``persist``, for what tells of a store that is away in our words."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(persisting.RETRY_S)
