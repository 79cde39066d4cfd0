"""Ids of new objects: a prefix that says what it is, a hyphen, and random characters nobody can guess."""

from __future__ import annotations

import secrets
import time
import uuid

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: 22 base-62 digits hold 130.99 bits; an id must be unguessable (SECURITY §2.1, API1: ≥ 128 random bits).
_DIGITS = 22


def new_id(prefix: str) -> str:
    """A new id such as ``prom-3kTMd0yX2bQWz8Jc5VnR1u`` (shape: contract §0.6)."""
    number = secrets.randbelow(62**_DIGITS)
    return f"{prefix}-{base62(number).rjust(_DIGITS, '0')}"


def time_ordered_id() -> str:
    """A new UUID of version 7, with the time to a quarter of a microsecond (RFC 9562, 6.2, method 3): as text, in order of
    creation as far as clocks agree. 62 bits of it are random: it names what its owner alone can read, and keeps no secret."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    number = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=number))


def base62(number: int) -> str:
    """``number`` ≥ 0 in base 62."""
    digits = []
    while True:
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
        if not number:
            return "".join(reversed(digits))
