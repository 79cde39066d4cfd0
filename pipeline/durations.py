"""Lengths of time as policies write them: ``30s``, ``1m``, ``1d``, ``1h30m``."""

from __future__ import annotations

import re

from pipeline.errors import InvalidField

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_PART = re.compile(r"([0-9]{1,9})([smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern}){{1,5}}\Z")


def parse_duration(text: str, field: str, *, longest_s: int) -> int:
    """Whole seconds, at least 1. The original knows no days, though its documentation has them (contract 1backend §6).

    Raises:
        InvalidField: names ``field``.
    """
    seconds = 0
    if _DURATION.match(text):
        seconds = sum(int(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))
    if not 1 <= seconds <= longest_s:
        days = longest_s // _UNIT_S["d"]
        raise InvalidField(field, text, f"a whole number with s, m, h, d or w, such as 1m or 1d; 1s to {days}d")
    return seconds
