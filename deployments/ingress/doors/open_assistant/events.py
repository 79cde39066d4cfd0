"""An answer as it is written, for one client (contract A.5): ``pending`` while nothing has come, ``token`` for every piece, and
``message`` or ``error`` at the end. Whoever connects gets it from the beginning, however often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

from deployments.ingress.doors.open_assistant import wire
from deployments.ingress.doors.open_assistant.answers import Answers
from deployments.ingress.doors.open_assistant.wire import Told
from deployments.ingress.sse import STALLED_S
from deployments.ingress.threads import ThreadReader
from pipeline.delta import DeltaKind, FinishReason
from pipeline.errors import NotFound, StoreUnavailable
from pipeline.store.logs import LogEntry

#: Seconds between two ``pending``.
PENDING_S = 1.0
ABORTED = "Aborted due to worker error."
CANCELLED = "The message was cancelled."
GONE = "The message was removed."


class Spoken:
    """What a client has got of an answer that it appends text to.

    An answer that could not be resumed begins anew (``restart``), which the contract has no event for. As long as it says again
    what was said nothing is sent; where it says something else the client gets no more of it until the whole message.
    """

    def __init__(self) -> None:
        self.sent = ""
        self._now = ""

    def restart(self) -> None:
        self._now = ""

    def add(self, text: str) -> str:
        """The part of ``text`` that the client is to get."""
        self._now += text
        if not self._now.startswith(self.sent):
            return ""
        new = self._now[len(self.sent) :]
        self.sent = self._now
        return new


class AnswerStream:
    """Makes the events of answers."""

    def __init__(self, answers: Answers, threads: ThreadReader, *, heartbeat_s: float) -> None:
        self._answers = answers
        self._threads = threads
        self._heartbeat_s = heartbeat_s

    def response(self, told: Told) -> EventSourceResponse:
        """A reply of the events of an answer that is not finished."""
        return EventSourceResponse(
            _frames(self.events(told)),
            sep="\r\n",
            ping=self._heartbeat_s,
            # Comments: clients read every other thing as an event of theirs.
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\r\n"),
            send_timeout=STALLED_S,
            headers={"Cache-Control": "no-cache"},
        )

    async def events(self, told: Told) -> AsyncGenerator[Mapping[str, Any], None]:
        """The events, in order; the last one is ``message`` or ``error``."""
        if told.prompt is None:
            yield wire.error_event(GONE, told)
            return
        entries = self._threads.answer(told.prompt)
        spoken = Spoken()
        # One step at a time, and never cancelled in between: a generator that is cancelled has ended.
        step: asyncio.Task[LogEntry | None] | None = None
        try:
            while True:
                if step is None:
                    step = asyncio.ensure_future(anext(entries, None))
                if not spoken.sent and not (await asyncio.wait({step}, timeout=PENDING_S))[0]:
                    # Where the store is away for a moment there is nothing to tell; the answer may still come.
                    with suppress(StoreUnavailable):
                        position, size = await self._answers.place_in_queue(told)
                        yield wire.pending_event(position=position, size=size)
                    continue
                entry = await step
                step = None
                if entry is None:
                    yield wire.error_event(GONE, None)
                    return
                delta = entry.delta
                if delta.kind is DeltaKind.RESTART:
                    spoken.restart()
                if (
                    delta.kind in (DeltaKind.CONTENT, DeltaKind.END)
                    and delta.choice == 0
                    and (new := spoken.add(delta.text))
                ):
                    yield wire.token_event(new)
                if delta.kind is DeltaKind.END:
                    yield await self._last(told, delta.finish_reason)
                    return
        finally:
            if step is not None:
                step.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await step
            await entries.aclose()

    async def _last(self, told: Told, reason: FinishReason | None) -> Mapping[str, Any]:
        message = told.message
        try:
            ended = await self._answers.message(message.user_id, message.chat_id, message.id)
        except NotFound:
            return wire.error_event(GONE, None)
        if reason is FinishReason.ERROR:
            return wire.error_event(ABORTED, ended)
        if reason is FinishReason.CANCELED:
            return wire.error_event(CANCELLED, ended)
        return wire.message_event(ended)


async def _frames(events: AsyncGenerator[Mapping[str, Any], None]) -> AsyncIterator[bytes]:
    # Closed with this one: a reader who leaves is not followed any further.
    async with aclosing(events):
        async for event in events:
            # One line: the web client reads each by itself. In ASCII, as the original's: there are readers for whom a line also
            # ends at U+2028. No name and no id, which the web client takes for broken events.
            yield b"data: " + json.dumps(event).encode() + b"\r\n\r\n"
