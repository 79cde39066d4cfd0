"""Clients of the store, and what a store must be before prompts are trusted to it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from pipeline.errors import StoreRefused, StoreUnavailable
from pipeline.store.keys import Keys
from pipeline.store.replies import text

OLDEST_VERSION = (6, 2)
#: What is said of a URL that cannot be read, and nothing of what is in it.
INVALID_URL = "REDIS_URL is not a valid URL: allowed is redis://, rediss:// or unix://, the password in it %-encoded"
#: The server at the other end is not, or no longer, the primary. Another connection may lead to the one that is.
DEMOTED = (ReadOnlyError, MasterDownError)
#: Connections of one client; callers beyond wait their turn, so that a burst cannot open thousands.
MOST_CONNECTIONS = 64


class _CancellableSend(AbstractConnection):
    """Sends without a task of its own.

    redis-py wraps each send in ``asyncio.wait_for``, which before Python 3.12 makes a task of it and loses a cancellation
    that comes while that task is done already (cpython#86296): a cancelled caller would go on, and whoever awaits its end
    would wait for ever.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        pieces = (
            [command.encode() if isinstance(command, str) else command] if isinstance(command, str | bytes) else command
        )
        writer = self._writer
        assert writer is not None
        try:
            async with asyncio.timeout(self.socket_timeout):
                writer.writelines(pieces)
                await writer.drain()
        except builtins.TimeoutError:
            await self.disconnect(nowait=True)
            raise TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise ConnectionError(f"Error while writing to socket. {error}.") from error
        except BaseException:
            # Half a command may be on its way.
            await self.disconnect(nowait=True)
            raise


class _Tcp(_CancellableSend, Connection):
    pass


class _Tls(_CancellableSend, SSLConnection):
    pass


class _Unix(_CancellableSend, UnixDomainSocketConnection):
    pass


_CONNECTIONS: dict[type[AbstractConnection] | None, type[AbstractConnection]] = {
    None: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def _client(url: str, **options: Any) -> Redis:
    try:
        parsed = parse_url(url)
    except ValueError:
        # Its message quotes a piece of the password, where that has a / or # as it is.
        raise StoreRefused(INVALID_URL) from None
    connection_class = _CONNECTIONS[parsed.pop("connection_class", None)]
    return Redis.from_pool(BlockingConnectionPool(connection_class=connection_class, **{**options, **parsed}))


def connect_impatient(url: str) -> Redis:
    """A client for whoever has a caller waiting: it gives up within about 2 s (reconnecting once) rather than hang."""
    return _client(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=1.0,
        socket_connect_timeout=1.0,
        socket_timeout=1.8,
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[ConnectionError, *DEMOTED],
        protocol=2,
    )


def connect_patient(url: str) -> Redis:
    """A client for whoever works through the queue: it rides out a store that is away for a moment, then raises."""
    return _client(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=10.0,
        socket_connect_timeout=1.0,
        socket_timeout=5.0,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 5),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError, *DEMOTED],
        protocol=2,
    )


#: What the store answers when it is there but takes no writes: out of memory, disk full, replica, still loading.
_REFUSING = {"OOM", "MISCONF", "READONLY", "LOADING", "NOREPLICAS", "MASTERDOWN"}


def means_unavailable(error: RedisError) -> bool:
    """Whether waiting may help."""
    if isinstance(error, ConnectionError | TimeoutError | OutOfMemoryError):
        return True
    # redis-py takes a code that it knows out of the message.
    code = getattr(error, "status_code", None) or str(error).removeprefix("-").split(" ", 1)[0]
    return isinstance(error, ResponseError) and code in _REFUSING


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a store that is away or refuses writes into StoreUnavailable; other errors are bugs and pass."""
    try:
        yield
    except RedisError as error:
        if means_unavailable(error):
            raise StoreUnavailable() from error
        raise


async def verify_store(client: Redis, keys: Keys, expected_id: str = "") -> str:
    """Check that prompts can be trusted to the store; give a fresh one its identity. Returns the identity.

    Args:
        expected_id: identity the store must have; empty accepts whatever it has, and a fresh store.

    Raises:
        StoreRefused: it would forget prompts, or it is not the store it should be (DESIGN §3, Store).
        StoreUnavailable: it cannot be reached.
    """
    with translated_errors():
        info = await client.info("server")
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < OLDEST_VERSION:
            raise StoreRefused(f"the store is version {info['redis_version']}, needed is 6.2 or newer")
        settings = await _durability_settings(client)
        if settings is not None:
            _refuse_forgetful(settings)
        identity = await client.hget(keys.identity(), "id")
        if identity is None:
            if expected_id:
                raise StoreRefused(
                    f"the store has no identity but should be {expected_id}: it was wiped or is another one. "
                    "Restore it, or clear the expected identity to begin with an empty store"
                )
            if await client.exists(keys.seq()):
                raise StoreRefused("the store holds prompts but its identity key is gone: part of it was lost")
            await client.hsetnx(keys.identity(), "id", secrets.token_hex(8))
            identity = await client.hget(keys.identity(), "id")
        found = text(identity)
        if expected_id and found != expected_id:
            raise StoreRefused(f"the store is {found}, expected is {expected_id}")
        return found


async def _durability_settings(client: Redis) -> dict[str, str] | None:
    """The settings that decide what survives, or None where the operator hides CONFIG (managed services)."""
    names = ("appendonly", "maxmemory-policy", "no-appendfsync-on-rewrite", "maxmemory")
    try:
        return {name: str((await client.config_get(name)).get(name, "")) for name in names}
    except ResponseError:
        return None


def _refuse_forgetful(settings: dict[str, str]) -> None:
    if settings["appendonly"] != "yes":
        raise StoreRefused("the store has appendonly=no and would forget prompts when it restarts; set appendonly yes")
    policy = settings["maxmemory-policy"]
    if policy and policy != "noeviction":
        raise StoreRefused(f"the store has maxmemory-policy={policy} and would drop prompts; set it to noeviction")
    if settings["no-appendfsync-on-rewrite"] == "yes":
        raise StoreRefused(
            "the store has no-appendfsync-on-rewrite=yes and stops syncing while it rewrites its file; set it to no"
        )
