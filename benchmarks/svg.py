"""Two plots as SVG, by hand: no library of the lock files draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 50
COLOURS = ("#888888", "#1a6fb5", "#c8553d", "#3b8f5a")


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    x: float
    y: float
    #: One of a family that a thin line joins.
    is_reference: bool


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    #: One value a second.
    values: Sequence[float]


def scatter(points: Iterable[Point], *, x: str, y: str) -> str:
    """Points by name, both axes logarithmic; the less of both the better."""
    points = list(points)
    xs, ys = _decades(p.x for p in points), _decades(p.y for p in points)

    def at(point: Point) -> tuple[float, float]:
        return _log(point.x, xs, LEFT, WIDTH - RIGHT), _log(point.y, ys, HEIGHT - BOTTOM, TOP)

    parts = [*_log_axes(xs, ys, x, y)]
    joined = " ".join("{:.1f},{:.1f}".format(*at(p)) for p in points if p.is_reference)
    parts.append(f'<polyline points="{joined}" fill="none" stroke="{COLOURS[0]}" stroke-dasharray="4 3"/>')
    for number, point in enumerate(points):
        px, py = at(point)
        colour = COLOURS[0] if point.is_reference else COLOURS[1 + ("Serve" in point.name)]
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{3 if point.is_reference else 6}" fill="{colour}"/>')
        right = px > WIDTH * 0.6
        anchor, dx = ("end", -9) if right else ("start", 9)
        dy = 4 if point.is_reference else (-8, 4, 16)[number % 3]
        parts.append(_text(point.name, px + dx, py + dy, anchor, colour))
    return _svg(parts)


def chart(lines: Sequence[Line], *, x: str, x_scale: float, y: str) -> str:
    """Values over time."""
    length = max(len(line.values) for line in lines)
    top = max(max(line.values) for line in lines) or 1.0
    step = 10 ** math.floor(math.log10(top))
    parts = []
    for tick in range(int(top / step) + 1):
        py = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * tick * step / top
        parts += [_rule(LEFT, py, WIDTH - RIGHT, py), _text(f"{tick * step:g}", LEFT - 8, py + 4, "end")]
    for tick in range(int(length / x_scale) + 1):
        px = LEFT + (WIDTH - RIGHT - LEFT) * tick * x_scale / length
        parts += [_rule(px, TOP, px, HEIGHT - BOTTOM), _text(f"{tick:g}", px, HEIGHT - BOTTOM + 18, "middle")]
    parts += _titles(x, y)
    every = max(1, length // 1200)
    for number, line in enumerate(lines):
        spots = (
            f"{LEFT + (WIDTH - RIGHT - LEFT) * second / length:.1f},"
            f"{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * max(line.values[second : second + every]) / top:.1f}"
            for second in range(0, len(line.values), every)
        )
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{" ".join(spots)}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        parts.append(_text(line.name, WIDTH - RIGHT - 6, TOP + 16 + 16 * number, "end", colour))
    return _svg(parts)


def _decades(values: Iterable[float]) -> tuple[int, int]:
    logs = [math.log10(value) for value in values]
    return math.floor(min(logs)), math.ceil(max(logs) + 0.001)


def _log(value: float, decades: tuple[int, int], low: float, high: float) -> float:
    return low + (high - low) * (math.log10(value) - decades[0]) / (decades[1] - decades[0])


def _log_axes(xs: tuple[int, int], ys: tuple[int, int], x: str, y: str) -> Iterable[str]:
    for power in range(xs[0], xs[1] + 1):
        px = _log(10.0**power, xs, LEFT, WIDTH - RIGHT)
        yield _rule(px, TOP, px, HEIGHT - BOTTOM)
        yield _text(f"{10.0**power:,g}", px, HEIGHT - BOTTOM + 18, "middle")
    for power in range(ys[0], ys[1] + 1):
        py = _log(10.0**power, ys, HEIGHT - BOTTOM, TOP)
        yield _rule(LEFT, py, WIDTH - RIGHT, py)
        yield _text(f"{10.0**power:,g}", LEFT - 8, py + 4, "end")
    yield from _titles(x, y)


def _titles(x: str, y: str) -> list[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return [
        _text(x, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "middle"),
        f'<text transform="translate(18 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
    ]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(text: str, x: float, y: float, anchor: str, colour: str = "#333333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _svg(parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"
