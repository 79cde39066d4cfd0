"""Accounts: who may use the service. Their rules, and the three things done with them: register, log in, look up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pipeline.errors import ClientError, Conflict, InvalidField, Shown, TooManyRequests, Unauthorized
from pipeline.ids import new_id
from pipeline.passwords import MAX_PASSWORD, Passwords
from pipeline.permits import ANY_APP

#: Slug of the admin that the first start creates (contract §7).
ADMIN_SLUG = "1backend"
MIN_PASSWORD = 8
MAX_NAME = 128
#: Failed logins that one slug may collect from one address within the window, and the window in seconds.
MAX_FAILURES = 10
FAILURE_WINDOW_S = 60

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_SLUG_RULE = "1 to 64 lower-case letters and digits, separated by single hyphens"


class Role(StrEnum):
    """Roles of the contract §7. Everyone is a user."""

    USER = "user-svc:user"
    ADMIN = "user-svc:admin"


class WrongPassword(ClientError):
    """Invalid Password"""

    status = 401


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One user."""

    id: str
    #: Unique name to log in with.
    slug: str
    #: Name to show, may be empty.
    name: str = ""
    #: Encoded argon2id hash.
    password_hash: str
    #: Those it was made with. Nothing takes them away.
    roles: tuple[str, ...] = (Role.USER,)
    #: Those it was enrolled in, each with the app whose tokens have it.
    enrolled: tuple[tuple[str, str], ...] = ()
    #: Of its tokens: those of an earlier generation are worthless.
    token_generation: int = 0
    #: Unix seconds.
    created_at: float
    updated_at: float

    def roles_in(self, app_id: str) -> tuple[str, ...]:
        """The roles that a token of this app has."""
        enrolled = sorted(role for role, app in self.enrolled if app in (ANY_APP, app_id))
        return tuple(dict.fromkeys((*self.roles, *enrolled)))

    def __repr__(self) -> str:
        return f"Account(id={self.id!r}, slug={self.slug!r}, roles={self.roles!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountPage:
    accounts: list[Account]
    #: The time behind which the next page begins (µs), None if this is the last one.
    after_us: int | None


class AccountStore(Protocol):
    """Where accounts live. Every method may raise StoreUnavailable."""

    async def create(self, account: Account) -> bool:
        """Keep a new account; False, and nothing kept, when its slug is taken. Atomic."""
        ...

    async def by_slug(self, slug: str) -> Account | None: ...

    async def by_id(self, user_id: str) -> Account | None: ...

    async def remove(self, account: Account) -> None:
        """Forget an account, and free its slug."""
        ...

    async def replace_password(self, account: Account, password_hash: str, now: float) -> bool:
        """Set another hash if the account still has the one of ``account``; False otherwise. Atomic, and what
        ``revoke_tokens`` does with it."""
        ...

    async def token_generation(self, user_id: str) -> int | None:
        """That of the account, None if there is no such one."""
        ...

    async def revoke_tokens(self, user_id: str) -> bool:
        """Begin another generation of an account's tokens; False if there is no such account."""
        ...

    async def count_attempt(self, slug: str, address: str, window_s: int) -> tuple[int, float]:
        """Count a login that has not succeeded yet: how many there are in the window, and seconds until it ends."""
        ...

    async def note_login(self, account: Account, address: str) -> None:
        """Forget the attempts from this address; and make sure that the account is listed, which those of an earlier version
        are not."""
        ...

    async def many(self, user_ids: Sequence[str]) -> list[Account]:
        """Those that there are, in this order."""
        ...

    async def page(self, *, descending: bool, after_us: int | None, limit: int) -> AccountPage:
        """Some of all accounts, in the order of their registration, behind a time."""
        ...

    async def count(self) -> int: ...


class SlugTaken(Conflict):
    """The slug is taken."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"slug: {slug!r} is taken")


class Accounts:
    """Registers and logs in users."""

    def __init__(self, store: AccountStore, passwords: Passwords, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.passwords = passwords
        self.clock = clock

    async def register(self, *, slug: str, password: str, name: str = "") -> Account:
        """Create the account of a user.

        Raises:
            InvalidField: slug, password or name breaks a rule; the password is not shown.
            SlugTaken: by another account, or because it is the admin's.
            TooManyRequests: more passwords wait to be hashed than the service takes on.
        """
        check_slug(slug)
        check_new_password(password)
        if len(name) > MAX_NAME:
            raise InvalidField("name", _length(name), f"at most {MAX_NAME} characters")
        if slug == ADMIN_SLUG or await self.store.by_slug(slug):
            raise SlugTaken(slug)
        account = await self.draft(slug=slug, password=password, name=name, roles=(Role.USER,))
        if not await self.store.create(account):
            raise SlugTaken(slug)
        return account

    async def draft(self, *, slug: str, password: str, name: str, roles: tuple[str, ...]) -> Account:
        """A new account, not stored yet."""
        now = self.clock()
        return Account(
            id=new_id("usr"),
            slug=slug,
            name=name,
            password_hash=await self.passwords.hash(password),
            roles=roles,
            created_at=now,
            updated_at=now,
        )

    async def login(self, *, slug: str, password: str, address: str) -> Account:
        """The account behind a slug and password. An unknown slug takes the time, and gives the answer, of a wrong password.

        ``address`` is where the attempt comes from; failures are counted per slug and address.

        Raises:
            WrongPassword: also for an unknown slug.
            InvalidField: the password is longer than any account's.
            TooManyRequests: too many failures, or too many logins at this moment.
        """
        if len(password) > MAX_PASSWORD:
            raise InvalidField("password", _length(password), f"at most {MAX_PASSWORD} characters")
        async with self.passwords.slot() as slot:
            # Counted before the check, so that parallel guesses cannot outrun the count; and inside the slot, so that
            # a crowd of rightful logins is never in flight all at once.
            attempts, window_s = await self.store.count_attempt(slug, address, FAILURE_WINDOW_S)
            if attempts > MAX_FAILURES:
                raise TooManyRequests("Too many failed logins, try again later", retry_after_s=window_s)
            account = await self.store.by_slug(slug) if is_slug(slug) else None
            right = await slot.verify(account.password_hash if account else None, password)
            if not right or account is None:
                raise WrongPassword
            await self.store.note_login(account, address)
            return account

    async def change_password(self, *, user_id: str, current: str, new: str, address: str) -> None:
        """Give an account another password. Wrong guesses of the present one count as failed logins; tokens issued with it are
        worthless from then on.

        Raises:
            Unauthorized: there is no such account.
            WrongPassword: ``current`` is not its password, or it has been changed meanwhile.
            InvalidField: the new one breaks the rule.
            TooManyRequests: as in ``login``.
        """
        check_new_password(new)
        account = await self.store.by_id(user_id)
        if account is None:
            raise Unauthorized
        account = await self.login(slug=account.slug, password=current, address=address)
        if not await self.store.replace_password(account, await self.passwords.hash(new), self.clock()):
            raise WrongPassword

    async def reset_password(self, account: Account, new: str) -> None:
        """Give somebody else's account another password; tokens that are out are worthless from then on.

        Raises:
            InvalidField: it breaks the rule.
            Conflict: the account has got another one at this moment.
            TooManyRequests: more passwords wait to be hashed than the service takes on.
        """
        check_new_password(new)
        if not await self.store.replace_password(account, await self.passwords.hash(new), self.clock()):
            raise Conflict("The password was changed at the same moment")

    async def by_id(self, user_id: str) -> Account | None:
        return await self.store.by_id(user_id)


def is_slug(slug: str) -> bool:
    return len(slug) <= 64 and _SLUG.match(slug) is not None


def check_slug(slug: str) -> None:
    """Raises InvalidField unless ``slug`` can name a new account."""
    if not is_slug(slug):
        raise InvalidField(
            "slug",
            Shown(f"'{slug}'") if slug.isprintable() and len(slug) <= 64 else _length(slug),
            _SLUG_RULE,
        )


def check_new_password(password: str) -> None:
    """Raises InvalidField, without the password, unless it can be chosen."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InvalidField("password", _length(password), f"{MIN_PASSWORD} to {MAX_PASSWORD} characters")


def _length(text: str) -> Shown:
    return Shown(f"{len(text)} characters")
