"""Who holds an API key: keys are accepted wherever an access token is, on every door."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from deployments.ingress.fresh import FreshTable
from deployments.ingress.principal import API_KEY_ID, Principal
from deployments.ingress.tokens import app_id_of
from pipeline.accounts import Accounts
from pipeline.api_keys import PREFIX, SHOWN, ApiKey, digest_of
from pipeline.errors import NotFound, Unauthorized
from pipeline.ids import new_id
from pipeline.store.api_keys import ApiKeyStore

#: How old what a replica knows of a key may be, seconds: a key that another replica revoked opens nothing after this.
MAX_AGE_S = 2.0
#: How long what a key was made into (a stream's ticket, a session) is good at most, seconds; it ends with the key before that.
HOLDS_S = 3600
#: Keys remembered, about 1 KiB each.
_REMEMBERED = 4096
_KEY = re.compile(rf"{PREFIX}-[0-9A-Za-z]{{22}}\Z")
#: The app whose roles and permits count for holders of keys: the one of clients that name none (contract §7).
_APP = "unnamed"


class ApiKeys:
    """Makes and revokes keys, and tells who holds one."""

    def __init__(
        self,
        store: ApiKeyStore,
        accounts: Accounts,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._monotonic = monotonic
        #: By digest: who it is, and until when that is taken for true.
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        #: By user and id of the key, for who holds something that was made with a key, and not the key.
        self._exist = FreshTable(self._exists, max_age_s=MAX_AGE_S, most=_REMEMBERED, clock=monotonic)

    async def create(self, user_id: str, name: str) -> tuple[ApiKey, str]:
        """A new key of the user's, and the key itself, which cannot be had again. Raises TooManyKeys."""
        secret = new_id(PREFIX)
        made = await self._store.create(
            digest_of(secret), key_id=new_id(API_KEY_ID), user_id=user_id, name=name, prefix=secret[:SHOWN]
        )
        return made, secret

    async def of_user(self, user_id: str) -> list[ApiKey]:
        return await self._store.of_user(user_id)

    async def revoke(self, user_id: str, key_ids: Sequence[str]) -> None:
        """Revoke keys of the user's: at once here, on the other replicas within ``MAX_AGE_S``.

        Raises:
            NotFound: one is not the user's; those before it are revoked.
        """
        for key_id in key_ids:
            digest = await self._store.revoke(user_id, key_id)
            if digest is None:
                raise NotFound
            self._known.pop(digest, None)
            self._exist.forget((user_id, key_id))

    @staticmethod
    def looks_like_one(token: str) -> bool:
        return _KEY.match(token) is not None

    async def check(self, caller: Principal) -> None:
        """Whether the key that ``caller`` came with is still there.

        Raises:
            Unauthorized: it was revoked.
            StoreUnavailable: it cannot be told.
        """
        if not await self._exist.get((caller.user_id, caller.token_id)):
            raise Unauthorized

    async def holder(self, key: str) -> Principal:
        """Whoever the key stands for, with the roles that the account has now.

        Raises:
            Unauthorized: it is none, or was revoked.
            StoreUnavailable: it cannot be told.
        """
        digest = digest_of(key)
        now = self._monotonic()
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            self._known.move_to_end(digest)
            return known[0]
        found = await self._store.use(digest)
        account = None if found is None else await self._accounts.by_id(found.user_id)
        if found is None or account is None:
            self._known.pop(digest, None)
            raise Unauthorized
        holder = Principal(
            user_id=account.id,
            slug=account.slug,
            roles=account.roles_in(app_id_of(_APP)),
            app_id=app_id_of(_APP),
            app_host=_APP,
            device="",
            token_id=found.id,
            expires_at=int(self._clock()) + HOLDS_S,
            generation=account.token_generation,
        )
        self._known[digest] = (holder, now + MAX_AGE_S)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return holder

    async def _exists(self, key: tuple[str, str]) -> bool:
        user_id, key_id = key
        return await self._store.has(user_id, key_id)
