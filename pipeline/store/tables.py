"""Small tables that every ingress replica reads whole: policies and permits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from pipeline.errors import Conflict
from pipeline.permits import MOST_PERMITS, Permit
from pipeline.policy import MOST_INSTANCES, Charge, Policy
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts


class TableFull(Conflict):
    """There are as many of these as there can be; remove some first."""


class _Table:
    """Entries by id, at most so many, changed all or none."""

    def __init__(self, client: Redis, keys: Keys, name: str, most: int) -> None:
        self._client = client
        self._scripts = Scripts(client, keys.namespace)
        self._name = name
        self._key: str = getattr(keys, name)()
        self._most = most

    async def read(self) -> dict[str, str]:
        with translated_errors():
            return {text(name): text(record) for name, record in (await self._client.hgetall(self._key)).items()}

    async def read_some(self, ids: Sequence[str]) -> dict[str, str]:
        with translated_errors():
            records = await self._client.hmget(self._key, list(ids))
        return {name: text(record) for name, record in zip(ids, records, strict=True) if record is not None}

    async def change(self, records: Mapping[str, str]) -> int:
        """Set records, remove those that are empty; how many entries changed. Raises TableFull."""
        flat = [part for item in records.items() for part in item]
        with translated_errors():
            changed = int(await self._scripts.run("keep_entries", self._name, self._most, *flat))
        if changed < 0:
            raise TableFull(f"There are {self._most} of these already; remove some first")
        return changed


class PolicyStore:
    """The policies, and the counters of their rate limits."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._table = _Table(client, keys, "policy_table", MOST_INSTANCES)
        self._scripts = Scripts(client, keys.namespace)

    async def all(self) -> list[Policy]:
        return [Policy.from_record(name, record) for name, record in sorted((await self._table.read()).items())]

    async def put(self, policy: Policy) -> None:
        """Keep it in place of one with the same id. Raises TableFull."""
        await self._table.change({policy.id: policy.to_record()})

    async def remove(self, policy_id: str) -> bool:
        return await self._table.change({policy_id: ""}) > 0

    async def admit(self, charges: Sequence[Charge]) -> tuple[Charge, float] | None:
        """Count a call under all limits, or under none: then the limit that it has to wait for longest, and the seconds."""
        arguments = [
            part
            for charge in charges
            for part in (charge.counter, charge.limit.max_requests, charge.limit.window_s * 1_000_000)
        ]
        with translated_errors():
            wait_us, number = await self._scripts.run("admit", *arguments)
        return (charges[int(number) - 1], int(wait_us) / 1_000_000) if wait_us else None


class PermitStore:
    """The permits."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._table = _Table(client, keys, "permit_table", MOST_PERMITS)

    async def all(self) -> list[Permit]:
        return [Permit.from_record(name, record) for name, record in sorted((await self._table.read()).items())]

    async def some(self, ids: Sequence[str]) -> dict[str, Permit]:
        return {name: Permit.from_record(name, record) for name, record in (await self._table.read_some(ids)).items()}

    async def save(self, permits: Sequence[Permit]) -> None:
        """Keep them, all or none, in place of those with the same ids; empty ones are removed. Raises TableFull."""
        await self._table.change({permit.id: "" if permit.is_empty else permit.to_record() for permit in permits})
