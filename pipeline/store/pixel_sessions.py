"""Sessions of the SEMOSS door in the store: any replica knows them, and they survive all of them."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.errors import TooManyRequests
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

#: How long a session lives after its last request, seconds: a servlet container's usual half an hour.
IDLE_S = 1800
#: How old that time may get, seconds: clients poll many times a second, and a write waits for the store's disk.
TOUCH_S = 30
#: Insights of one session.
MOST_INSIGHTS = 1000

_INSIGHT = "i:"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSession:
    #: Who it belongs to, as ``open`` was told.
    holder: str
    csrf: str

    def __repr__(self) -> str:
        return "StoredSession()"


class PixelSessions:
    """Every method may raise StoreUnavailable's redis causes. A session is named by a digest: who reads the store cannot enter
    one with what is there."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def open(self, digest: str, *, holder: str, csrf: str) -> None:
        """Begin a session that is entered by a cookie."""
        pipe = self._client.pipeline(transaction=True)
        pipe.hset(self._keys.pixel_session(digest), mapping={"holder": holder, "csrf": csrf})
        pipe.expire(self._keys.pixel_session(digest), IDLE_S)
        await pipe.execute()

    async def enter(self, digest: str) -> StoredSession | None:
        """The session, which lives on from now; None if there is none (any more)."""
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys.pixel_session(digest), "holder", "csrf")
        pipe.ttl(self._keys.pixel_session(digest))
        (holder, csrf), left_s = await pipe.execute()
        if holder is None:
            return None
        if left_s < IDLE_S - TOUCH_S:
            await self._client.expire(self._keys.pixel_session(digest), IDLE_S)
        return StoredSession(holder=text(holder), csrf=text(csrf))

    async def close(self, digest: str) -> None:
        """End it, with its insights."""
        await self._client.delete(self._keys.pixel_session(digest))

    async def open_insight(self, digest: str, insight_id: str) -> None:
        """Add an insight. Raises TooManyRequests if the session has too many."""
        if not await self._scripts.run("open_insight", digest, insight_id, MOST_INSIGHTS, IDLE_S):
            raise TooManyRequests(f"a session has at most {MOST_INSIGHTS} insights, drop one", retry_after_s=60)

    async def has_insight(self, digest: str, insight_id: str) -> bool:
        return bool(await self._client.hexists(self._keys.pixel_session(digest), _INSIGHT + insight_id))

    async def insights(self, digest: str) -> list[str]:
        """Ids of the session's insights, oldest first."""
        fields = await self._client.hgetall(self._keys.pixel_session(digest))
        opened = {text(name): int(value) for name, value in fields.items() if text(name).startswith(_INSIGHT)}
        return [name.removeprefix(_INSIGHT) for name in sorted(opened, key=opened.__getitem__)]

    async def drop_insight(self, digest: str, insight_id: str) -> bool:
        """Remove an insight. False if the session has none of this id."""
        return bool(await self._client.hdel(self._keys.pixel_session(digest), _INSIGHT + insight_id))
