"""Everything that a store holds, for tests of what must not be in it."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis


def as_held(text: str) -> bytes:
    """``text`` as ``everything_in`` shows it."""
    return repr(text.encode())[2:-1].encode()


async def everything_in(client: Redis) -> list[bytes]:
    """Names and values of all keys, as bytes; what is not ASCII is escaped in values."""
    found: list[bytes] = []
    async for key in client.scan_iter():
        kind = await client.type(key)
        read: Any = {
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"zset": lambda k: client.zrange(k, 0, -1),
            b"stream": client.xrange,
            b"string": client.get,
        }[kind]
        found.append(key + repr(await read(key)).encode())
    return found
