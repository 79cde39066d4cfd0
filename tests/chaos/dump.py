"""What the store holds, read past the service's own code paths: for the checker at the end, and for choosing victims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from pipeline.store.keys import Keys

TERMINAL = frozenset({"completed", "abandoned", "canceled"})
STATUSES = ("scheduled", "running", "completed", "errored", "abandoned", "canceled")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEntry:
    """One entry of a log, in the store's one-letter fields."""

    number: int
    kind: str
    text: str = ""
    reason: str = ""
    error: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPrompt:
    id: str
    user: str
    thread: str
    place: int
    status: str
    text: str
    runs: int
    failures: int
    crashes: int
    fence: int
    entries: int
    log: tuple[StoredEntry, ...]
    #: Text of the answer's chat message, None without one.
    answer: str | None
    #: Statuses under whose index it is found.
    indexed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredQueue:
    #: The counter, and what really waits.
    waiting: int
    #: Of conversations, outside the queue.
    blocked: int
    queued: int
    due: int
    leases: int
    turns: int
    permits_used: Mapping[str, int]
    stale_rejected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Dump:
    prompts: Mapping[str, StoredPrompt]
    queue: StoredQueue
    #: Unfinished prompts per user/thread, those without left out.
    open_threads: Mapping[str, int]


class StoreView:
    """A reader of the store of one service."""

    def __init__(self, redis_url: str, namespace: str, model_id: str) -> None:
        # Its stubs allow for replies that are text.
        self._client: Any = redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=1)
        self._keys = Keys(namespace)
        self._model_id = model_id

    def close(self) -> None:
        self._client.close()

    def statuses(self, refs: Iterable[str]) -> dict[str, tuple[str, int, int]]:
        """Status, fence and number of log entries of the prompts that exist."""
        refs = list(refs)
        pipe = self._client.pipeline(transaction=False)
        for ref in refs:
            pipe.hmget(self._keys.prompt(ref), "status", "fence", "entries")
        rows = zip(refs, pipe.execute(), strict=True)
        return {ref: (row[0].decode(), int(row[1]), int(row[2])) for ref, row in rows if row[0] is not None}

    def entries(self, ref: str) -> int:
        return int(self._client.hget(self._keys.prompt(ref), "entries") or 0)

    def running(self) -> dict[str, str]:
        """Ref and holder of every running prompt; the holder is empty until a replica has claimed it."""
        refs = [ref.decode() for ref in self._client.zrange(self._keys.by_status("running"), 0, -1)]
        pipe = self._client.pipeline(transaction=False)
        for ref in refs:
            pipe.hget(self._keys.prompt(ref), "holder")
        return {ref: (holder or b"").decode() for ref, holder in zip(refs, pipe.execute(), strict=True)}

    def replicas(self) -> list[str]:
        """Replicas that offer permits."""
        return [replica.decode() for replica in self._client.hkeys(self._keys.permits(self._model_id))]

    def queue(self) -> StoredQueue:
        keys, model = self._keys, self._model_id
        stats = self._client.hgetall(keys.stats(model))
        priorities = [p.decode() for p in self._client.zrange(keys.priorities(model), 0, -1)]
        turns = queued = 0
        for priority in priorities:
            for user in self._client.zrange(keys.turns(priority, model), 0, -1):
                turns += 1
                queued += self._client.zcard(keys.waiting(priority, user.decode(), model))
        return StoredQueue(
            waiting=int(stats.get(b"waiting", 0)),
            blocked=int(stats.get(b"blocked", 0)),
            queued=queued,
            due=self._client.zcard(keys.due(model)),
            leases=self._client.zcard(keys.leases(model)),
            turns=turns,
            permits_used={k.decode(): int(v) for k, v in self._client.hgetall(keys.used(model)).items()},
            stale_rejected=int(stats.get(b"stale_rejected", 0)),
        )

    def dump(self, refs: Iterable[str]) -> Dump:
        """The prompts of one run and the whole queue."""
        prompts = {p.id: p for p in map(self._prompt, refs) if p is not None}
        threads = {f"{p.user}/{p.thread}" for p in prompts.values()}
        counts = {thread: self._client.zcard(self._keys.thread_open(thread)) for thread in threads}
        return Dump(prompts=prompts, queue=self.queue(), open_threads={k: v for k, v in counts.items() if v})

    def _prompt(self, ref: str) -> StoredPrompt | None:
        record = self._client.hgetall(self._keys.prompt(ref))
        if not record:
            return None
        text = {key.decode(): value.decode("utf-8", "replace") for key, value in record.items()}
        answer = None
        if text.get("message"):
            raw = self._client.hget(self._keys.message(f"{text['user']}/{text['message']}"), "text")
            answer = None if raw is None else raw.decode()
        return StoredPrompt(
            id=text["id"],
            user=text["user"],
            thread=text["thread"],
            place=int(text["place"]),
            status=text["status"],
            text=text["prompt"],
            runs=int(text["runs"]),
            failures=int(text["failures"]),
            crashes=int(text["crashes"]),
            fence=int(text["fence"]),
            entries=int(text["entries"]),
            log=tuple(_entry(*row) for row in self._client.xrange(self._keys.log(ref))),
            answer=answer,
            indexed=tuple(s for s in STATUSES if self._client.zscore(self._keys.by_status(s), ref) is not None),
        )


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> StoredEntry:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    return StoredEntry(
        number=int(entry_id.split(b"-")[0]),
        kind=text(b"k"),
        text=text(b"t"),
        reason=text(b"r"),
        error=text(b"e"),
        message=text(b"m"),
    )
