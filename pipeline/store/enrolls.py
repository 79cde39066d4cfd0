"""Enrolls in the store. What they give is also written into the accounts (``note_roles`` in the scripts' library)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from pipeline.errors import ClientError
from pipeline.roles import MOST_ENROLLS, Enroll, IdInUse, NewEnroll, TooManyEnrolls, UnknownUser
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts

_REFUSALS: Mapping[str, Callable[[int], ClientError]] = {"user": UnknownUser, "id": IdInUse, "full": TooManyEnrolls}


class EnrollStore:
    """Keeps, finds and drops enrolls."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def keep(self, enrolls: Sequence[NewEnroll], *, by: str) -> list[Enroll]:
        """Give users their roles, all or none; what is there already stays as it is.

        Args:
            by: id of the user who gives them.

        Raises:
            UnknownUser, IdInUse, TooManyEnrolls: with the number of the first enroll that cannot be kept.
        """
        flat = [part for enroll in enrolls for part in (enroll.id, enroll.user_id, enroll.role, enroll.app_id)]
        with translated_errors():
            refused = await self._scripts.run("keep_enrolls", MOST_ENROLLS, by, *flat)
        if refused:
            raise _REFUSALS[text(refused[1])](int(refused[0]))
        return await self.some([enroll.id for enroll in enrolls])

    async def drop(self, enroll_ids: Sequence[str]) -> bool:
        """Take roles back, all or none: False if one of the enrolls is unknown. Tokens of whoever loses a role are worthless."""
        with translated_errors():
            return bool(await self._scripts.run("drop_enrolls", *enroll_ids))

    async def some(self, enroll_ids: Sequence[str]) -> list[Enroll]:
        """Those that there are, in this order."""
        with translated_errors():
            pipe = self._client.pipeline(transaction=False)
            for enroll_id in enroll_ids:
                pipe.hgetall(self._keys.enroll(enroll_id))
            records = await pipe.execute()
        return [_enroll(name, record) for name, record in zip(enroll_ids, records, strict=True) if record]

    async def of_user(self, user_id: str) -> list[Enroll]:
        """In the order of their ids."""
        with translated_errors():
            ids = await self._client.smembers(self._keys.user_enrolls(user_id))
        return await self.some(sorted(text(enroll_id) for enroll_id in ids))

    async def in_role(self, role: str, *, after: str, limit: int) -> list[Enroll]:
        """In the order of their ids, those behind ``after``."""
        with translated_errors():
            ids = await self._client.zrangebylex(
                self._keys.role_enrolls(role), f"({after}" if after else "-", "+", start=0, num=limit
            )
        return await self.some([text(enroll_id) for enroll_id in ids])


def _enroll(enroll_id: str, record: Mapping[Any, Any]) -> Enroll:
    fields = {text(name): text(value) for name, value in record.items()}
    return Enroll(
        id=enroll_id,
        user_id=fields["user"],
        role=fields["role"],
        app_id=fields["app"],
        created_by=fields["by"],
        created_at=int(fields["created"]) / 1_000_000,
        updated_at=int(fields["updated"]) / 1_000_000,
    )
