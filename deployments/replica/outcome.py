"""How a replica answers a router."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a call of ``run`` ended, for the router's eyes."""

    #: No permit was free; the lease went back unburnt.
    FULL = "full"
    #: The attempt ended and its end is recorded.
    ENDED = "ended"
    #: The attempt lost its prompt: cancelled, or granted again.
    STALE = "stale"
