"""An ``AccountStore`` in a dict, and cheap hashing, for tests of what lies above the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from argon2 import PasswordHasher

from pipeline.accounts import Account, AccountPage, Accounts
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
        return await self.revoke_tokens(account.id)

    async def token_generation(self, user_id: str) -> int | None:
        account = self.accounts.get(user_id)
        return None if account is None else account.token_generation

    async def revoke_tokens(self, user_id: str) -> bool:
        account = self.accounts.get(user_id)
        if account is not None:
            self.accounts[user_id] = replace(account, token_generation=account.token_generation + 1)
        return account is not None

    async def count_attempt(self, slug: str, address: str, window_s: int) -> tuple[int, float]:
        self.attempts[slug, address] = self.attempts.get((slug, address), 0) + 1
        return self.attempts[slug, address], window_s

    async def note_login(self, account: Account, address: str) -> None:
        self.attempts.pop((account.slug, address), None)

    async def many(self, user_ids: Sequence[str]) -> list[Account]:
        return [self.accounts[user_id] for user_id in user_ids if user_id in self.accounts]

    async def page(self, *, descending: bool, after_us: int | None, limit: int) -> AccountPage:
        every = sorted(self.accounts.values(), key=lambda account: account.created_at, reverse=descending)
        times = [round(account.created_at * 1_000_000) for account in every]
        start = 0 if after_us is None else times.index(after_us) + 1
        shown = every[start : start + limit]
        return AccountPage(accounts=shown, after_us=times[start + limit - 1] if len(every) > start + limit else None)

    async def count(self) -> int:
        return len(self.accounts)


def memory_accounts(clock_s: float = 1_773_561_898.123456) -> Accounts:
    return Accounts(MemoryAccounts(), Passwords(cheap_hasher()), clock=lambda: clock_s)
