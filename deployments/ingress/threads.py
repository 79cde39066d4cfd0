"""Answers as they are written: a thread's one after another in the order the prompts were submitted, or one prompt's."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from redis.asyncio import Redis

from deployments.ingress.hub import Hub, ThreadWatch
from pipeline.delta import DeltaKind
from pipeline.errors import InvalidField
from pipeline.prompt import Prompt
from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.logs import LogEntry, LogReader

#: No number is larger than those of the store, which have 64 bits.
_CURSOR = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """A position in a thread: behind entry ``number`` of the prompt at ``place``. On the wire ``place-number``."""

    place: int
    number: int

    def __str__(self) -> str:
        return f"{self.place}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """
        Raises:
            InvalidField: it is not a cursor of ours.
        """
        found = re.fullmatch(_CURSOR, text)
        if found is None:
            raise InvalidField("Last-Event-ID", text, "the id of an event of this stream, such as 3-17")
        return cls(place=int(found[1]), number=int(found[2]))


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadEvent:
    cursor: Cursor
    prompt_id: str
    entry: LogEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """The answer that comes next has not begun."""

    ref: str


class ThreadReader:
    """Follows threads, for any number of subscribers."""

    def __init__(self, client: Redis, keys: Keys, hub: Hub) -> None:
        self._client = client
        self._keys = keys
        self._hub = hub
        self._logs = LogReader(client, keys)

    async def follow(self, user_id: str, thread_id: str, cursor: Cursor | None) -> AsyncGenerator[ThreadEvent, None]:
        """Yield the thread's events for ever, from behind ``cursor``; without one, from the beginning of the first answer that
        is not finished, or from now on.
        """
        async with aclosing(self.attend(user_id, thread_id, cursor)) as events:
            async for event in events:
                if isinstance(event, ThreadEvent):
                    yield event

    async def attend(
        self, user_id: str, thread_id: str, cursor: Cursor | None
    ) -> AsyncGenerator[ThreadEvent | Waiting, None]:
        """``follow`` that also tells, once for each answer, when it has to be waited for."""
        async with self._hub.watch(user_id, thread_id) as watch:
            place, ref, number = await self._start(user_id, thread_id, cursor)
            while True:
                if ref is not None:
                    watch.follow(place)
                    prompt_id = ref.split("/", 1)[1]
                    async with aclosing(self._log(watch, ref, number)) as entries:
                        async for entry in entries:
                            if entry is None:
                                if not number:
                                    yield Waiting(ref=ref)
                                continue
                            yield ThreadEvent(
                                cursor=Cursor(place=place, number=entry.number), prompt_id=prompt_id, entry=entry
                            )
                watch.follow(None)
                following = await self._logs.following(user_id, thread_id, place)
                if following is None:
                    ref = None
                    await watch.news()
                    # A thread that was empty for long is forgotten; it counts from the beginning again.
                    place = min(place, await self._logs.last_place(user_id, thread_id))
                else:
                    (place, ref), number = following, 0

    async def answer(self, prompt: Prompt, *, after: int = 0) -> AsyncGenerator[LogEntry, None]:
        """The log of one prompt from behind entry ``after`` to its end. It stops short if the prompt is erased meanwhile."""
        async with self._hub.watch(prompt.user_id, prompt.thread_id) as watch:
            watch.follow(prompt.place)
            async with aclosing(self._log(watch, prompt.ref, after)) as entries:
                async for entry in entries:
                    if entry is not None:
                        yield entry

    async def _log(self, watch: ThreadWatch, ref: str, number: int) -> AsyncGenerator[LogEntry | None, None]:
        """Entries of the log that ``watch`` follows behind entry ``number``, until nothing more can come. None, once and first,
        if there are none yet."""
        began = number
        told = False
        #: Whether the log may hold entries behind ``number`` that did not ring.
        may_have_missed = True
        while True:
            entries = await self._hub.read(ref, number) if may_have_missed else watch.heard(number)
            for entry in entries:
                number = entry.number
                yield entry
                if entry.delta.kind is DeltaKind.END:
                    return
            if entries:
                continue
            if may_have_missed and await self._is_over(ref, number):
                return
            if number == began and not told:
                told = True
                yield None
            may_have_missed = not await watch.news()

    async def _start(self, user_id: str, thread_id: str, cursor: Cursor | None) -> tuple[int, str | None, int]:
        last = await self._logs.last_place(user_id, thread_id)
        if cursor is None:
            unfinished = await self._logs.first_unfinished(user_id, thread_id)
            return (unfinished[0], unfinished[1], 0) if unfinished else (last, None, 0)
        if cursor.place > last:
            # A position this thread never had: the store was emptied, or the id is invented. Nothing can be missed.
            return last, None, 0
        at_or_behind = await self._logs.following(user_id, thread_id, cursor.place - 1)
        if at_or_behind is None or at_or_behind[0] != cursor.place:
            return cursor.place, None, 0
        return cursor.place, at_or_behind[1], cursor.number

    async def _is_over(self, ref: str, number: int) -> bool:
        """Whether nothing more can come behind entry ``number``: the prompt has ended, or was erased."""
        status, entries = await self._client.hmget(self._keys.prompt(ref), "status", "entries")
        return status is None or (Status(status.decode()).is_terminal and number >= int(entries))
