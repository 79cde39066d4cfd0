"""A painter that does what a test tells it, and files in memory: what a ``Pictures`` stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from PIL import Image

from pipeline.engine import ImageRequest, Painted, PaintStep
from pipeline.files.record import FileRecord, MadeFile

RED = Image.new("RGB", (8, 6), "red")


class HandPainter:
    """Yields what a test puts into it; an exception is raised."""

    fingerprint = "hand"

    def __init__(self) -> None:
        self.steps: asyncio.Queue[PaintStep | Painted | Exception] = asyncio.Queue()
        self.requests: list[ImageRequest] = []
        self.started = asyncio.Event()
        self.closed = asyncio.Event()

    async def paint(self, request: ImageRequest) -> AsyncGenerator[PaintStep | Painted, None]:
        self.requests.append(request)
        self.started.set()
        left = request.parameters.images
        try:
            while left:
                step = await self.steps.get()
                if isinstance(step, Exception):
                    raise step
                left -= isinstance(step, Painted)
                yield step
        finally:
            self.closed.set()

    def finish(self, pictures: int = 1, first_seed: int = 7) -> None:
        """Paint all pictures of a request."""
        for index in range(pictures):
            self.steps.put_nowait(Painted(index=index, seed=first_seed + index, image=RED, scheduler="ddim"))

    async def check_health(self) -> None: ...

    async def shutdown(self) -> None: ...


class MemoryFiles:
    """Of ``FileStore``, what attempts use."""

    def __init__(self, **sources: bytes) -> None:
        self.sources = sources
        self.made: dict[str, tuple[str, bytes, MadeFile]] = {}
        self.unmade: list[str] = []
        #: What the next calls of ``make`` raise.
        self.failing: list[Exception] = []
        self._numbers = iter(range(1, 100))

    async def make(self, owner: str, data: bytes, content_type: str, filename: str) -> MadeFile:
        if self.failing:
            raise self.failing.pop(0)
        made = MadeFile(id=f"file-{next(self._numbers)}", name=filename, content_type=content_type, size=len(data))
        self.made[made.id] = (owner, data, made)
        return made

    async def unmake(self, made: Sequence[MadeFile]) -> None:
        self.unmade += [file.id for file in made]

    async def find(self, owner: str, file_ids: Sequence[str]) -> list[FileRecord | None]:
        return [self._record(file_id) if file_id in self.sources else None for file_id in file_ids]

    async def read(self, record: FileRecord) -> AsyncGenerator[bytes, None]:
        yield self.sources[record.id]

    def _record(self, file_id: str) -> FileRecord:
        size = len(self.sources[file_id])
        return FileRecord(id=file_id, user_id="u", name="", content_type="", size=size, created_us=1, url="")
