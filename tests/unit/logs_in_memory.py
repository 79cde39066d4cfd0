"""As much of a Redis client as the readers of logs need: streams, three reads of sorted sets and hashes, pub/sub.

Write to it with ``begin``, ``add`` and ``end``, which ring the thread's bell as the scripts do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError

from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import make_ref
from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.logs import encode_delta

USER, THREAD = "usr-1", "t"


class MemoryLogs:
    def __init__(self) -> None:
        self.keys = Keys("test")
        self.pubsubs: list[MemoryPubSub] = []
        #: Pipelines sent, as lists of the logs they read.
        self.round_trips: list[list[str]] = []
        #: Names of the other commands, in order.
        self.commands: list[str] = []
        #: While it is clear, no connection for bells comes about.
        self.reachable = asyncio.Event()
        self.reachable.set()
        #: What the next round trips raise instead.
        self.failing: list[Exception] = []
        self._streams: dict[str, list[list[Any]]] = {}
        self._hashes: dict[str, dict[str, bytes]] = {}
        self._sets: dict[str, dict[str, int]] = {}

    # -- what the scripts do --------------------------------------------------------------------------------------------

    def begin(self, prompt_id: str) -> str:
        """Accept a prompt into the thread."""
        thread, ref = f"{USER}/{THREAD}", make_ref(USER, prompt_id)
        record = self._hashes.setdefault(self.keys.thread(thread), {})
        place = int(record.get("place", b"0")) + 1
        record["place"] = b"%d" % place
        self._hashes[self.keys.prompt(ref)] = {"status": b"scheduled", "entries": b"0", "place": b"%d" % place}
        for name in (self.keys.thread_prompts(thread), self.keys.thread_open(thread)):
            self._sets.setdefault(name, {})[ref] = place
        self.ring(str(place))
        return ref

    def add(self, ref: str, text: str) -> None:
        self._append(ref, Delta(text=text, token_ids=tuple(text.encode())), "", rings=True)

    def add_unheard(self, ref: str, text: str) -> None:
        """The ring gets lost."""
        self._append(ref, Delta(text=text, token_ids=tuple(text.encode())), "", rings=False)

    def spoil(self, ref: str) -> None:
        """What is written last was written by a version of the service that knows more."""
        self._streams[self.keys.log(ref)][-1][1][b"k"] = b"smell"

    def end(self, ref: str, status: Status = Status.COMPLETED, text: str = "") -> None:
        self._hashes[self.keys.prompt(ref)]["status"] = status.value.encode()
        self._sets[self.keys.thread_open(f"{USER}/{THREAD}")].pop(ref, None)
        reason = {Status.COMPLETED: FinishReason.STOP, Status.CANCELED: FinishReason.CANCELED}.get(
            status, FinishReason.ERROR
        )
        self._append(ref, Delta(kind=DeltaKind.END, text=text, finish_reason=reason), " end", rings=True)

    def erase(self, ref: str) -> None:
        place = self._hashes.pop(self.keys.prompt(ref))["place"].decode()
        for name in (self.keys.thread_prompts, self.keys.thread_open):
            self._sets[name(f"{USER}/{THREAD}")].pop(ref, None)
        self._streams.pop(self.keys.log(ref), None)
        self.ring(f"{place} end")

    def ring(self, payload: str) -> None:
        for pubsub in self.pubsubs:
            pubsub.hear("message", self.keys.bell(f"{USER}/{THREAD}"), payload.encode())

    def break_connections(self) -> None:
        for pubsub in self.pubsubs:
            pubsub.messages.put_nowait(ConnectionError("gone"))

    def _append(self, ref: str, delta: Delta, end: str, *, rings: bool) -> None:
        record = self._hashes[self.keys.prompt(ref)]
        number = int(record["entries"]) + 1
        record["entries"] = b"%d" % number
        fields = [part if isinstance(part, bytes) else part.encode() for part in encode_delta(delta)]
        entry: list[Any] = [b"%d-0" % number, dict(zip(fields[::2], fields[1::2], strict=True))]
        self._streams.setdefault(self.keys.log(ref), []).append(entry)
        if rings:
            shown = {name.decode(): value.decode() for name, value in entry[1].items() if name != b"i"}
            self.ring(f"{record['place'].decode()} {number}{end}\n{json.dumps(shown)}")

    # -- what the client does -------------------------------------------------------------------------------------------

    def pubsub(self) -> MemoryPubSub:
        self.pubsubs.append(MemoryPubSub(self.reachable))
        return self.pubsubs[-1]

    def pipeline(self, *, transaction: bool) -> MemoryPipeline:
        return MemoryPipeline(self)

    async def zrange(self, name: str, start: int, end: int, *, withscores: bool) -> list[tuple[bytes, float]]:
        self.commands.append("zrange")
        return self._rows(name)[start : end + 1]

    async def zrangebyscore(
        self, name: str, low: str, high: str, start: int, num: int, *, withscores: bool
    ) -> list[tuple[bytes, float]]:
        self.commands.append("zrangebyscore")
        return [row for row in self._rows(name) if row[1] > int(low.removeprefix("("))][start : start + num]

    async def hget(self, name: str, field: str) -> bytes | None:
        self.commands.append("hget")
        return self._hashes.get(name, {}).get(field)

    async def hmget(self, name: str, *fields: str) -> list[bytes | None]:
        self.commands.append("hmget")
        return [self._hashes.get(name, {}).get(field) for field in fields]

    def entries_behind(self, name: str, number: int, count: int) -> list[list[Any]]:
        return self._streams.get(name, [])[number : number + count]

    def _rows(self, name: str) -> list[tuple[bytes, float]]:
        rows = sorted(self._sets.get(name, {}).items(), key=lambda row: row[1])
        return [(ref.encode(), float(score)) for ref, score in rows]


class MemoryPipeline:
    def __init__(self, logs: MemoryLogs) -> None:
        self._logs = logs
        self._reads: list[tuple[str, int, int]] = []

    def xrange(self, name: str, *, min: str, count: int) -> None:
        self._reads.append((name, int(min.removeprefix("(").removesuffix("-0")), count))

    async def execute(self) -> Sequence[list[list[Any]]]:
        self._logs.round_trips.append([name for name, _, _ in self._reads])
        await asyncio.sleep(0)
        if self._logs.failing:
            raise self._logs.failing.pop(0)
        return [self._logs.entries_behind(*read) for read in self._reads]


class MemoryPubSub:
    def __init__(self, reachable: asyncio.Event) -> None:
        self._reachable = reachable
        self.channels: set[str] = set()
        self.messages: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()
        self.closed = False

    async def subscribe(self, *channels: str) -> None:
        await self._reachable.wait()
        for channel in channels:
            self.channels.add(channel)
            self.hear("subscribe", channel, b"")

    async def unsubscribe(self, *channels: str) -> None:
        # Somebody may be cancelled here, as while a socket is written to.
        await asyncio.sleep(0)
        self.channels.difference_update(channels)

    async def get_message(self, *, timeout: float | None) -> dict[str, Any]:  # noqa: ASYNC109 (the client's)
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def aclose(self) -> None:
        self.closed = True
        self.channels.clear()

    def hear(self, kind: str, channel: str, data: bytes) -> None:
        if channel in self.channels:
            self.messages.put_nowait({"type": kind, "channel": channel.encode(), "data": data})
