import asyncio
from typing import Any

import pytest

from deployments.ingress.file_sweep import BATCH, sweep_regularly
from tests.waiting import until


class Files:
    def __init__(self, *removed: int) -> None:
        self.removed = list(removed)
        self.sweeps = 0

    async def sweep(self, most: int) -> int:
        self.sweeps += 1
        if not self.removed:
            raise ConnectionError
        return self.removed.pop(0)


async def test_full_batches_follow_each_other_at_once_and_then_it_waits():
    files: Any = Files(BATCH, BATCH, BATCH - 1, 0)
    task = asyncio.create_task(sweep_regularly(files, every_s=3600))
    await until(lambda: files.sweeps == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    assert files.sweeps == 3
    task.cancel()


async def test_it_comes_back_and_leaves_errors_to_its_supervisor():
    files: Any = Files(0, 0)
    with pytest.raises(ConnectionError):
        await sweep_regularly(files, every_s=0.001)
    assert files.sweeps == 3
