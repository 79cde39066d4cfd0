"""Diffusers behind the painter seam: requests into calls of one pipeline, one call at a time, in a thread of its own.

Pictures that are painted alike and wait together go into one call. A request that is withdrawn leaves the queue at once; a call
under way ends when nobody waits for any of its pictures.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, sqrt

from PIL.Image import Image

from deployments.engines.diffusers_pipelines import OutOfMemory, PictureOrder, Pipelines, Stopped
from deployments.engines.paint_queue import Job, Likeness, PaintQueue
from deployments.settings import ImageSpec, ModelSpec
from pipeline.engine import ImageRequest, Painted, PaintStep
from pipeline.errors import EngineDead, EngineError, describe
from pipeline.files.threads import Threads
from pipeline.image_parameters import ImageTask
from pipeline.image_wish import LEAST_SIDE, MOST_SIDE

logger = logging.getLogger("ray.serve")


@dataclass(kw_only=True, slots=True, eq=False)
class _Order:
    """A request, and what its caller is told."""

    request: ImageRequest
    #: Size of the files before upscaling.
    width: int
    height: int
    cut_short: bool = False
    news: asyncio.Queue[PaintStep | Painted | Exception] = field(default_factory=asyncio.Queue)
    #: Set from the event loop, read by the pipeline's thread.
    withdrawn: threading.Event = field(default_factory=threading.Event)
    painted: int = 0
    seconds: float = 0.0


class DiffusersEngine:
    """One pipeline; see ``pipeline.engine.Painter`` for its methods. Made by ``start``."""

    def __init__(self, pipelines: Pipelines, rules: ImageSpec) -> None:
        self.fingerprint = pipelines.fingerprint
        self._pipelines = pipelines
        self._rules = rules
        self._queue: PaintQueue[_Order] = PaintQueue()
        self._arrived = asyncio.Event()
        self._orders: set[_Order] = set()
        self._dead = False
        self._loop = asyncio.get_running_loop()
        self._thread = Threads(1, "pipeline")
        self._worker = asyncio.create_task(self._work(), name="pipeline")

    @classmethod
    async def start(cls, spec: ModelSpec, source: str) -> DiffusersEngine:
        """Load the model at ``source`` (a directory or a Hugging Face id). Raises as ``Pipelines``."""
        return cls(await asyncio.to_thread(Pipelines, spec, source), spec.images)

    async def paint(self, request: ImageRequest) -> AsyncGenerator[PaintStep | Painted, None]:
        self._require_alive()
        width, height = _size(request, self._rules)
        order = _Order(request=request, width=width, height=height)
        likeness = Likeness.of(
            request.parameters,
            width=_up_to_multiple(width, self._pipelines.multiple),
            height=_up_to_multiple(height, self._pipelines.multiple),
        )
        self._orders.add(order)
        self._queue.add(Job(owner=order, index=i, likeness=likeness) for i in range(request.parameters.images))
        self._arrived.set()
        try:
            left = request.parameters.images
            while left:
                event = await order.news.get()
                if isinstance(event, Exception):
                    raise event
                left -= isinstance(event, Painted)
                yield event
        finally:
            order.withdrawn.set()
            self._orders.discard(order)
            self._queue.withdraw(order)

    async def check_health(self) -> None:
        self._require_alive()
        if self._worker.done():
            raise EngineDead

    async def shutdown(self) -> None:
        self._dead = True
        for order in list(self._orders):
            order.withdrawn.set()
            order.news.put_nowait(EngineDead())
        self._worker.cancel()
        # Ends with the step that is being computed.
        await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.close()

    def _require_alive(self) -> None:
        if self._dead:
            raise EngineDead

    async def _work(self) -> None:
        """Call after call, for ever."""
        while not self._dead:
            await self._arrived.wait()
            self._arrived.clear()
            while group := self._queue.take(self._rules.batch):
                await self._paint(group)

    async def _paint(self, group: list[Job[_Order]]) -> None:
        likeness = group[0].likeness
        began = time.perf_counter()
        try:
            images = await self._thread.run(self._call, likeness, group)
        except Stopped:
            return
        except OutOfMemory as error:
            if len(group) > 1:
                logger.warning(
                    "%d pictures at a time are too much for the memory; they are painted one by one", len(group)
                )
                self._queue.put_back(replace(job, alone=True) for job in group if not job.owner.withdrawn.is_set())
                return
            self._tell_all(group, error)
        except EngineDead as error:
            self._dead = True
            for order in list(self._orders):
                order.news.put_nowait(error)
        except EngineError as error:
            self._tell_all(group, error)
        except Exception as error:  # The top of a call: its requests fail, the others go on.
            logger.error("a call of the pipeline failed: %s", describe(error))
            self._tell_all(group, error)
        else:
            for order in {job.owner for job in group}:
                order.seconds += time.perf_counter() - began
            for job, image in zip(group, images, strict=True):
                self._deliver(job, image)

    def _deliver(self, job: Job[_Order], image: Image) -> None:
        order = job.owner
        parameters = order.request.parameters
        order.painted += 1
        order.news.put_nowait(
            Painted(
                index=job.index,
                seed=parameters.seed + job.index,
                image=_cropped(image, order.width, order.height),
                scheduler=self._pipelines.scheduler_name(parameters.scheduler),
                seconds=order.seconds,
                cut_short=order.cut_short,
            )
        )

    def _tell_all(self, group: Sequence[Job[_Order]], error: Exception) -> None:
        for order in {job.owner for job in group}:
            # Its other pictures are of no use without these.
            self._queue.withdraw(order)
            order.news.put_nowait(error)

    def _call(self, likeness: Likeness, group: Sequence[Job[_Order]]) -> list[Image]:
        """In the pipeline's thread."""
        if all(job.owner.withdrawn.is_set() for job in group):
            raise Stopped
        pictures: dict[_Order, int] = {}
        for job in group:
            pictures[job.owner] = pictures.get(job.owner, 0) + 1
        for order in pictures:
            order.cut_short = self._pipelines.cuts_short(order.request.parameters.prompt)
        orders = [_picture(job) for job in group]
        shown_until = self._rules.previews

        def on_step(step: int, steps: int, preview: Callable[[], bytes]) -> None:
            if all(order.withdrawn.is_set() for order in pictures):
                raise Stopped
            # Spread evenly, without the last step: the picture itself follows.
            due = step < steps and shown_until > 0 and step % max(1, ceil(steps / (shown_until + 1))) == 0
            # The first picture of the call is what a preview shows.
            shown = preview() if due else b""
            first = group[0].owner
            for order, count in pictures.items():
                per_picture = likeness.steps
                done = order.painted * per_picture + count * max(1, step * per_picture // steps)
                event = PaintStep(
                    step=done,
                    steps=order.request.parameters.images * per_picture,
                    preview=shown if order is first else b"",
                )
                self._loop.call_soon_threadsafe(order.news.put_nowait, event)

        return self._pipelines.paint(likeness, orders, on_step)


def _picture(job: Job[_Order]) -> PictureOrder:
    parameters = job.owner.request.parameters
    return PictureOrder(
        prompt=parameters.prompt,
        negative_prompt=parameters.negative_prompt,
        seed=parameters.seed + job.index,
        source=job.owner.request.source,
        width=job.owner.width,
        height=job.owner.height,
    )


def _size(request: ImageRequest, rules: ImageSpec) -> tuple[int, int]:
    """Of the picture. One that starts from another has the other's, within what the model may paint and a side may have: whoever
    sends a line of 16 million pixels does not get as many of a decoder's blocks."""
    parameters = request.parameters
    if parameters.task is ImageTask.IMAGE and request.source is not None and parameters.width is None:
        width, height = request.source.size
        scale = min(1.0, sqrt(rules.max_pixels / (width * height)), MOST_SIDE / max(width, height))
        return max(LEAST_SIDE, int(width * scale)), max(LEAST_SIDE, int(height * scale))
    return parameters.width or rules.width, parameters.height or rules.height


def _up_to_multiple(pixels: int, multiple: int) -> int:
    return -(-pixels // multiple) * multiple


def _cropped(image: Image, width: int, height: int) -> Image:
    """The middle of it, where ``Pipelines`` puts what a picture starts from."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
