"""Showing how far a batch is: a bar in a terminal, a line every few seconds in a log. Numbers only, no prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from clients.batch.meter import Meter

#: Seconds between two lines of a log, and between two looks at the meter for a bar.
_LINE_S, _LOOK_S = 5.0, 0.2


@asynccontextmanager
async def shown(meter: Meter, out: TextIO, *, every_s: float = _LINE_S) -> AsyncIterator[None]:
    """Show the meter on ``out`` meanwhile."""
    showing = asyncio.create_task(_bar(meter, out) if out.isatty() else _log(meter, out, every_s))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])
        if not showing.cancelled():
            showing.result()


async def _log(meter: Meter, out: TextIO, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        print(meter.progress(), file=out, flush=True)


async def _bar(meter: Meter, out: TextIO) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=out)) as progress:
        task = progress.add_task("", total=meter.lines, completed=meter.done)
        try:
            while True:
                await asyncio.sleep(_LOOK_S)
                _draw(progress, task, meter)
        finally:
            _draw(progress, task, meter)


def _draw(progress: Progress, task: object, meter: Meter) -> None:
    errors = meter.errors_before + meter.errors
    described = f"{meter.rates()}, {errors} errors"
    progress.update(task, completed=meter.done, description=described)  # type: ignore[arg-type]
