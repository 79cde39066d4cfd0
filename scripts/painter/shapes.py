"""Outlines of the shapes that the painter knows, upright, in a square from -1 to 1 with y downwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

Point = tuple[float, float]
#: Outlines drawn one over the other: filled, cut out, filled ...
Outlines = Sequence[Sequence[Point]]


def _circle(radius: float) -> list[Point]:
    steps = [math.tau * step / 64 for step in range(64)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in steps]


def _star() -> list[Point]:
    corners = []
    for corner in range(10):
        radius = 1.0 if corner % 2 == 0 else 0.46
        angle = math.tau * corner / 10 - math.pi / 2
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return corners


def _heart() -> list[Point]:
    outline = []
    for step in range(64):
        angle = math.tau * step / 64
        x = 16 * math.sin(angle) ** 3
        y = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
        outline.append((x / 16.5, -(y + 2.5) / 15))
    return outline


def _cross() -> list[Point]:
    arm = 0.34
    corner = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    turned = [corner]
    for _ in range(3):
        turned.append([(-y, x) for x, y in turned[-1]])
    return [point for part in turned for point in part]


_OUTLINES: dict[str, Callable[[], Outlines]] = {
    "circle": lambda: [_circle(1.0)],
    "square": lambda: [[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]],
    "triangle": lambda: [[(0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)]],
    "star": lambda: [_star()],
    "heart": lambda: [_heart()],
    "diamond": lambda: [[(0.0, -1.0), (0.95, 0.0), (0.0, 1.0), (-0.95, 0.0)]],
    "cross": lambda: [_cross()],
    "ring": lambda: [_circle(1.0), _circle(0.52)],
}
SHAPES = tuple(_OUTLINES)


def mask(shape: str, size: tuple[int, int], centre: Point, radius: float) -> Image.Image:
    """White where the shape is: ``size``, ``centre`` and ``radius`` in pixels."""
    image = Image.new("L", size, 0)
    pen = ImageDraw.Draw(image)
    for number, outline in enumerate(_OUTLINES[shape]()):
        points = [(centre[0] + radius * x, centre[1] + radius * y) for x, y in outline]
        pen.polygon(points, fill=255 if number % 2 == 0 else 0)
    return image
