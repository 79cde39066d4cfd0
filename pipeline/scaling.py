"""How many replicas a model should have: a pure function of the demand in its durable queue.

Used by Serve's policy (``deployments.autoscaling``) and by the simulation (``benchmarks.autoscaling_simulation``). What it
returns is a wish: bounds, delays and factors are Serve's to apply, so that they stay where operators expect them, in
``autoscaling_config``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

#: A reading older than this says nothing about now, seconds: the store or every router is away.
STALE_S = 10.0
#: A demand counts for this long, seconds: between two readings a short prompt may come and go.
HOLD_S = 5.0
#: Demands this close above a whole number of replicas are that number: thousandths add up with an error.
_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The demand for one model at one moment."""

    #: When it was read, seconds since the epoch.
    at: float
    #: Cost of everything that waits or runs, 1 = an ordinary text prompt (``pipeline.cost``).
    demand: float


def replicas_for(demand: float, *, per_replica: float) -> int:
    """Replicas that hold the whole demand at once.

    Args:
        per_replica: what one replica should hold, in units of ``demand``; more than 0.

    What runs counts like what waits: counted alone, the waiting would drop to zero once replicas are there, and the replicas with
    it.
    """
    if demand <= 0:
        return 0
    return max(1, math.ceil(demand / per_replica - _EPSILON))


def wish(readings: Iterable[Reading], *, now: float, per_replica: float) -> int | None:
    """The replicas a model should have by the highest demand of late; None if there is no fresh reading: then leave it as it is.
    Without news from the queue, replicas that work must not be taken away, and none can be asked for.

    Every router reads the same queue, so readings are not added up.
    """
    readings = list(readings)
    newest = max((reading.at for reading in readings), default=-math.inf)
    if now - newest > STALE_S:
        return None
    peak = max(reading.demand for reading in readings if newest - reading.at <= HOLD_S)
    return replicas_for(peak, per_replica=per_replica)
