"""The room that is left for the embedded store. It ends at the first write that fails, and with it all that runs; so what would
fill the disk is refused while there is still room for what was accepted: heartbeats, logs, and the ends of prompts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import redis

from deployments.local.valkey import EmbeddedValkey
from pipeline.store.keys import Keys

#: Free bytes below which new prompts, uploads and chat messages are refused, and those from which on they are taken again.
RESERVE_BYTES = 512 * 1024**2
ENOUGH_BYTES = 640 * 1024**2
#: Free bytes that a rewrite of the store's file leaves.
REWRITE_MARGIN_BYTES = 128 * 1024**2
#: Seconds between two looks.
LOOK_S = 3.0
#: Seconds for which the store goes on refusing when nobody looks any more.
_KEPT_S = 60


class DiskWatch:
    """Looks at the disk of one embedded store that runs, and tells the store's scripts what it sees."""

    def __init__(self, store: EmbeddedValkey, namespace: str, say: Callable[[str], None]) -> None:
        """
        Args:
            say: gets a line whenever the disk gets full, and when there is room again.
        """
        self._store = store
        self._key = Keys(namespace).full()
        self._say = say
        self._next_look = time.monotonic()
        #: What the store knows; None: nothing yet.
        self._full: bool | None = None
        self._rewrites: bool | None = None

    def look(self) -> None:
        """Look, unless the last time was just now. A store that is away is told the next time."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        free = shutil.disk_usage(self._store.folder).free
        full = free < (ENOUGH_BYTES if self._full else RESERVE_BYTES)
        try:
            with self._store.impatient_client() as client:
                # For a while both files are there. The new one is about as large as what is alive, which may be far less than the
                # old one: it is the way out of a disk that is full of the past.
                needed = min(self._store.append_only_bytes(), int(client.info("memory")["used_memory"]))
                rewrites = free - REWRITE_MARGIN_BYTES > needed
                if (full, rewrites) == (self._full, self._rewrites) == (False, True):
                    return
                # Again at each look: the mark expires, and a store that was started anew has its settings from the start.
                if full:
                    client.set(self._key, 1, ex=_KEPT_S)
                else:
                    client.delete(self._key)
                client.config_set("auto-aof-rewrite-percentage", 100 if rewrites else 0)
        except redis.RedisError:
            return
        where = f"the disk that holds {self._store.folder}"
        if full and not self._full:
            self._say(
                f"{where} is nearly full ({free / 1e9:.2f} GB free): new prompts and uploads are refused until "
                f"{ENOUGH_BYTES / 1e9:.2f} GB are free"
            )
        elif self._full and not full:
            self._say(f"{where} has room again ({free / 1e9:.2f} GB free): new prompts and uploads are taken")
        self._full, self._rewrites = full, rewrites
