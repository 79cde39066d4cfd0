"""What a prompt costs a replica, in units of an ordinary text prompt: what the demand for replicas is counted in.

A text prompt costs 1, however long: a replica holds so many of them at a time (its permits), and how long each takes nobody knows
before it is run. An image's work is known beforehand.
"""

from __future__ import annotations

#: An ordinary text prompt.
TEXT = 1.0
#: The image that costs as much as a text prompt: pixels × steps.
IMAGE_WORK = 512 * 512 * 20
#: The store keeps costs in thousandths, and none outside of this.
LOWEST, HIGHEST = 0.001, 1_000_000.0


def image_cost(*, width: int, height: int, steps: int, images: int = 1) -> float:
    """Cost of ``images`` images of ``width`` × ``height`` pixels painted in ``steps`` steps."""
    return min(max(width * height * steps * images / IMAGE_WORK, LOWEST), HIGHEST)


def to_thousandths(cost: float) -> int:
    return round(min(max(cost, LOWEST), HIGHEST) * 1000)
