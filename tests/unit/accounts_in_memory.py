"""An ``AccountStore`` in a dict, and cheap hashing, for tests of what lies above the store."""

from __future__ import annotations

from dataclasses import replace

from argon2 import PasswordHasher

from pipeline.accounts import Account, Accounts
from pipeline.passwords import Passwords


def cheap_hasher() -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class MemoryAccounts:
    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.attempts: dict[tuple[str, str], int] = {}

    async def create(self, account: Account) -> bool:
        if await self.by_slug(account.slug):
            return False
        self.accounts[account.id] = account
        return True

    async def by_slug(self, slug: str) -> Account | None:
        return next((account for account in self.accounts.values() if account.slug == slug), None)

    async def by_id(self, user_id: str) -> Account | None:
        return self.accounts.get(user_id)

    async def remove(self, account: Account) -> None:
        self.accounts.pop(account.id, None)

    async def replace_password(self, account: Account, password_hash: str, now: float) -> bool:
        if self.accounts[account.id].password_hash != account.password_hash:
            return False
        self.accounts[account.id] = replace(account, password_hash=password_hash, updated_at=now)
        return True

    async def count_attempt(self, slug: str, address: str, window_s: int) -> tuple[int, float]:
        self.attempts[slug, address] = self.attempts.get((slug, address), 0) + 1
        return self.attempts[slug, address], window_s

    async def forget_attempts(self, slug: str, address: str) -> None:
        self.attempts.pop((slug, address), None)


def memory_accounts(clock_s: float = 1_773_561_898.123456) -> Accounts:
    return Accounts(MemoryAccounts(), Passwords(cheap_hasher()), clock=lambda: clock_s)
