"""Ids of new objects: a prefix that says what it is, a hyphen, and random characters nobody can guess."""

from __future__ import annotations

import secrets

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: 22 base-62 digits hold 130.99 bits; an id must be unguessable (SECURITY §2.1, API1: ≥ 128 random bits).
_DIGITS = 22


def new_id(prefix: str) -> str:
    """A new id such as ``prom-3kTMd0yX2bQWz8Jc5VnR1u`` (shape: contract §0.6)."""
    number = secrets.randbelow(62**_DIGITS)
    return f"{prefix}-{base62(number).rjust(_DIGITS, '0')}"


def base62(number: int) -> str:
    """``number`` ≥ 0 in base 62."""
    digits = []
    while True:
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
        if not number:
            return "".join(reversed(digits))
