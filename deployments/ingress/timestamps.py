"""Times on the wire: RFC 3339 in UTC (contract §0.2)."""

from __future__ import annotations

from datetime import UTC, datetime

#: "Never": what the contract sends for a time that is not set.
ZERO_TIME = "0001-01-01T00:00:00Z"


def rfc3339(seconds: float) -> str:
    """Unix seconds as ``2026-03-15T08:04:58.123456Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
