"""Keeps the leases of a replica alive, from a thread that the engine cannot block."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from pipeline.store.attempts import AttemptStore, Standing
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys

logger = logging.getLogger("ray.serve")


class Heartbeat:
    """One call every few seconds for all leases of the replica; it registers the replica's permits when it starts and again
    whenever the store has forgotten them."""

    def __init__(
        self,
        *,
        redis_url: str,
        keys: Keys,
        model_id: str,
        replica: str,
        node: str,
        lease_s: float,
        interval_s: float,
        leases: Callable[[], list[tuple[str, int]]],
        permits_offered: Callable[[], int],
        permits_used: Callable[[], int],
        on_lost: Callable[[str, int], None],
        on_standing: Callable[[Standing], None],
    ) -> None:
        """
        Args:
            leases: the (ref, fence) pairs held now; called from the thread, so it must be safe there.
            permits_offered: as safe.
            permits_used: as safe.
            on_lost: called in the owner's event loop with ref and fence of a lease the store no longer grants.
            on_standing: called there when the replica is to leave, or to stay after all; never with ``UNKNOWN``.
        """
        self._redis_url = redis_url
        self._keys = keys
        self._model_id = model_id
        self._replica = replica
        self._node = node
        self._lease_s = lease_s
        self._interval_s = interval_s
        self._leases = leases
        self._permits_offered = permits_offered
        self._permits_used = permits_used
        self._on_lost = on_lost
        self._on_standing = on_standing
        self._owner_loop = asyncio.get_running_loop()
        self._stopping = False
        #: Permits as the store was told.
        self._offered = -1
        #: The next heartbeat is due before its time.
        self._due = threading.Event()
        self._registered = asyncio.Event()
        self._thread = threading.Thread(target=self._run_thread, name="heartbeat", daemon=True)

    async def start(self) -> None:
        """Start the thread; returns once the replica is registered."""
        self._thread.start()
        await self._registered.wait()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def stop(self) -> None:
        """Take the permits back and end the thread."""
        self._stopping = True
        self._due.set()
        await asyncio.to_thread(self._thread.join, 5.0)

    def beat(self) -> None:
        """Make one now: the store has something to say, or to hear."""
        self._due.set()

    def _run_thread(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        client = connect_patient(self._redis_url)
        store = AttemptStore(client, self._keys)
        standing = Standing.UNKNOWN
        #: What the owner goes by. A store that does not know the replica has not changed its mind.
        told = Standing.SERVING
        while True:
            self._due.clear()
            if self._stopping:
                break
            try:
                if standing is not Standing.LEAVING and (
                    standing is Standing.UNKNOWN or self._permits_offered() != self._offered
                ):
                    await self._register(store)
                held = self._leases()
                standing, lost = await store.heartbeat(
                    self._model_id,
                    self._replica,
                    held,
                    lease_s=self._lease_s,
                    permits_used=self._permits_used(),
                )
                if standing not in (Standing.UNKNOWN, told):
                    # Until it is registered again it offers what it runs (follow.lua).
                    self._offered = -1
                    told = standing
                    self._owner_loop.call_soon_threadsafe(self._on_standing, standing)
                gone = set(lost)
                for ref, fence in held:
                    if ref in gone:
                        self._owner_loop.call_soon_threadsafe(self._on_lost, ref, fence)
            except Exception as error:  # The thread's top: without it every lease of the replica would expire.
                logger.warning("heartbeat failed (%s), trying again", type(error).__name__)
            await asyncio.to_thread(self._due.wait, self._interval_s)
        try:
            await store.unregister(self._model_id, self._replica)
        except RedisError as error:
            logger.warning("could not take the permits back (%s); they expire", type(error).__name__)
        await client.aclose()

    async def _register(self, store: AttemptStore) -> None:
        offered = self._permits_offered()
        await store.register(self._model_id, self._replica, permits=offered, node=self._node, lease_s=self._lease_s)
        self._offered = offered
        self._owner_loop.call_soon_threadsafe(self._registered.set)
