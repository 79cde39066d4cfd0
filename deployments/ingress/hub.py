"""One hub per ingress replica: hears that logs grew, and reads only those, for all subscribers together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from deployments.tasks import Supervisor
from pipeline.store.bells import RECONNECT_S, Ring
from pipeline.store.keys import Keys
from pipeline.store.logs import LogEntry, LogReader, RawPage, decode_page

logger = logging.getLogger("ray.serve")

#: A watch that has heard nothing for this long looks anyway, seconds: a ring may have been lost.
LOOK_ANYWAY_S = 5.0
#: Entries a watch keeps for a reader that is busy; one that falls further behind reads the log.
MOST_HEARD = 64


class Watch:
    """One reader's ear on one channel."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._blind = False

    def ring(self, payload: bytes) -> None:
        """Something was published."""
        self._news.set()

    def ring_blindly(self) -> None:
        """Rings may have been missed, or said too little."""
        self._blind = True
        self._news.set()

    async def news(self) -> bool:
        """Wait until something may have changed. False if what rang is not all there is to know, or nothing rang at all: it is
        time to look into the store."""
        try:
            # Not ``wait_for``: before Python 3.12 it loses a cancellation that comes together with a ring (cpython#86296), and
            # with it the end of whoever waits for a limited time.
            async with asyncio.timeout(LOOK_ANYWAY_S):
                await self._news.wait()
        except TimeoutError:
            return False
        rang = not self._blind
        self._news.clear()
        self._blind = False
        return rang


class ThreadWatch(Watch):
    """An ear on the bell of a thread (``pipeline.store.bells.Ring``)."""

    def __init__(self) -> None:
        super().__init__()
        self._place: int | None = None
        self._heard: deque[LogEntry] = deque()
        #: Place of the prompt whose end this watch waits for, None if it waits for anything.
        self.awaited: int | None = None
        #: Whether the awaited prompt's end has rung.
        self.has_ended = False

    def follow(self, place: int | None) -> None:
        """Keep the entries that ring for the prompt at ``place``, and let other prompts' rings pass; None hears every ring."""
        self._place = place
        self._heard.clear()

    def heard(self, number: int) -> list[LogEntry]:
        """The entries of the followed prompt that rang and come directly behind entry ``number``; each is given once."""
        entries: list[LogEntry] = []
        while self._heard:
            entry = self._heard.popleft()
            if entry.number == number + 1:
                entries.append(entry)
                number += 1
            elif entry.number > number:
                # One in between did not ring. It is in the log, as are those behind it.
                self._heard.clear()
                self.ring_blindly()
        return entries

    def ring(self, payload: bytes) -> None:
        try:
            ring = Ring.parse(payload)
        except (ValueError, KeyError, TypeError):
            # Another version of the service rang. The log is what counts.
            self.ring_blindly()
            return
        if ring.is_end and ring.place == self.awaited:
            self.has_ended = True
        if self._place is None:
            self._news.set()
        elif self._place == ring.place:
            if ring.entry is None or len(self._heard) == MOST_HEARD:
                self.ring_blindly()
            else:
                self._heard.append(ring.entry)
                self._news.set()


class Hub:
    """Subscribes to a thread's bell while somebody watches it, and batches what the watchers read."""

    def __init__(self, client: Redis, keys: Keys, supervisor: Supervisor) -> None:
        self._client = client
        self._keys = keys
        self._supervisor = supervisor
        self._reader = LogReader(client, keys)
        self._watches: dict[str, set[Watch]] = defaultdict(set)
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: PubSub | None = None
        self._wanted: dict[tuple[str, int], asyncio.Future[list[LogEntry]]] = {}
        self._something_wanted = asyncio.Event()
        self._any_channel = asyncio.Event()
        self._adjusting = asyncio.Lock()
        supervisor.keep_running(self._hear, name="hub bells")
        supervisor.keep_running(self._read_wanted, name="hub reader")

    @property
    def watching(self) -> int:
        """Channels subscribed to."""
        return len(self._watches)

    @contextlib.asynccontextmanager
    async def watch(self, user_id: str, thread_id: str) -> AsyncIterator[ThreadWatch]:
        """A watch on the thread. It hears everything that happens after this has been entered."""
        watch = ThreadWatch()
        async with self._attend(self._keys.bell(f"{user_id}/{thread_id}"), watch):
            yield watch

    @contextlib.asynccontextmanager
    async def watch_events(self, user_id: str) -> AsyncIterator[Watch]:
        """The same for the events of a user (pipeline/store/events.py)."""
        watch = Watch()
        async with self._attend(self._keys.events_bell(user_id), watch):
            yield watch

    @contextlib.asynccontextmanager
    async def _attend(self, channel: str, watch: Watch) -> AsyncIterator[None]:
        first = channel not in self._watches
        self._watches[channel].add(watch)
        if first:
            self._confirmed[channel] = asyncio.Event()
            self._begin_adjusting(channel)
        try:
            await self._confirmed[channel].wait()
            yield
        finally:
            self._watches[channel].discard(watch)
            if not self._watches[channel]:
                del self._watches[channel]
                del self._confirmed[channel]
                self._begin_adjusting(channel)

    def _begin_adjusting(self, channel: str) -> None:
        """Have it done whatever becomes of the watcher: one that is cancelled meanwhile would leave those who came after it
        without a subscription, and could not leave the channel, since a cancelled scope cancels every further await."""
        self._supervisor.spawn(self._adjust(channel), name="hub channel")

    async def _adjust(self, channel: str) -> None:
        """Subscribe to the channel or leave it, as it is wanted now. One at a time: commands that overtake each other would
        leave a watched channel unsubscribed."""
        self._any_channel.set()
        async with self._adjusting:
            # Without a connection there is nothing to do: the listener subscribes to all that is wanted when it has one. If
            # it fails here, it fails there too, and does the same.
            if self._pubsub is not None:
                with contextlib.suppress(RedisError, OSError):
                    if channel in self._watches:
                        await self._pubsub.subscribe(channel)
                    else:
                        await self._pubsub.unsubscribe(channel)

    async def _hear(self) -> None:
        await self._any_channel.wait()
        pubsub = self._client.pubsub()
        try:
            async with self._adjusting:
                # The nameless bell never rings; it keeps the connection subscribed when nobody watches.
                await pubsub.subscribe(self._keys.bell(""), *self._watches)
                self._pubsub = pubsub
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                channel = message["channel"].decode()
                watches = self._watches.get(channel, ())
                if message["type"] == "subscribe" and channel in self._confirmed:
                    self._confirmed[channel].set()
                    for watch in watches:
                        watch.ring_blindly()
                elif message["type"] == "message":
                    for watch in watches:
                        watch.ring(message["data"])
        except (RedisError, OSError) as error:
            logger.warning("store: bells lost (%s), connecting again", type(error).__name__)
            await asyncio.sleep(RECONNECT_S)
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def read(self, ref: str, number: int) -> list[LogEntry]:
        """Entries of a log behind ``number``; readers of one moment share a round trip, and readers of the same place its
        answer."""
        future = self._wanted.get((ref, number))
        if future is None:
            future = self._wanted[ref, number] = asyncio.get_running_loop().create_future()
            self._something_wanted.set()
        return await asyncio.shield(future)

    async def _read_wanted(self) -> None:
        while True:
            await self._something_wanted.wait()
            self._something_wanted.clear()
            wanted, self._wanted = self._wanted, {}
            try:
                pages = await self._reader.read(wanted)
            except Exception as error:
                for future in wanted.values():
                    if not future.done():
                        future.set_exception(error)
                        # Its reader may have gone; an exception nobody fetches is not news.
                        future.exception()
                continue
            for future, page in zip(wanted.values(), pages, strict=True):
                if not future.done():
                    _settle(future, page)


def _settle(future: asyncio.Future[list[LogEntry]], page: RawPage) -> None:
    """Each reader its own page: a log that cannot be read is no matter of the others."""
    try:
        future.set_result(decode_page(page))
    except (ValueError, KeyError, TypeError) as error:
        future.set_exception(error)
        future.exception()  # See above.
