"""Draws landscapes: a sky of some time of day, and what stands below it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from scripts.painter.palette import Colour, jittered, mixed

Size = tuple[int, int]

#: Top and bottom of the sky.
_SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((70, 150, 225), (196, 226, 246)),
    "sunset": ((84, 54, 120), (252, 150, 64)),
    "night": ((8, 10, 34), (36, 44, 92)),
}
LIGHTS = tuple(_SKIES)
#: What the light of the hour does to colours below the sky: mixed in, and how much of it.
_TINTS: dict[str, tuple[Colour, float]] = {
    "day": ((255, 255, 255), 0.0),
    "sunset": ((110, 40, 60), 0.45),
    "night": ((6, 8, 28), 0.72),
}


@dataclass(frozen=True, kw_only=True)
class Landscape:
    #: One of ``KINDS``.
    kind: str
    #: One of ``LIGHTS``.
    light: str = "day"
    #: A moon (at night) or a sun.
    orb: bool = True
    #: What the kind may have: flying cars over the city, solar panels on the house, an explorer on the planet.
    special: bool = False


def paint(landscape: Landscape, size: Size, rng: random.Random) -> Image.Image:
    """An RGB picture, ``size`` in pixels."""
    place = _Place(landscape, size, rng)
    place.sky()
    _KINDS[landscape.kind](place)
    return place.canvas


class _Place:
    """A canvas with what all landscapes need: positions as shares of it, colours in the light of the hour."""

    def __init__(self, landscape: Landscape, size: Size, rng: random.Random) -> None:
        self.landscape = landscape
        self.rng = rng
        self.size = size
        self.canvas = Image.new("RGB", size)
        self.pen = ImageDraw.Draw(self.canvas)

    def lit(self, colour: Colour) -> Colour:
        tint, share = _TINTS[self.landscape.light]
        return jittered(mixed(colour, tint, share), self.rng, by=4)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        width, height = self.size
        self.pen.rectangle((left * width, top * height, right * width, bottom * height), fill=colour)

    def area(self, points: list[tuple[float, float]], colour: Colour) -> None:
        width, height = self.size
        self.pen.polygon([(x * width, y * height) for x, y in points], fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """``radius`` as a share of the shorter side."""
        width, height = self.size
        pixels = radius * min(width, height)
        self.pen.ellipse(
            (x * width - pixels, y * height - pixels, x * width + pixels, y * height + pixels), fill=colour
        )

    def sky(self) -> None:
        top, bottom = (jittered(colour, self.rng) for colour in _SKIES[self.landscape.light])
        strip = Image.new("RGB", (1, 16))
        strip.putdata([mixed(top, bottom, row / 15) for row in range(16)])
        self.canvas.paste(strip.resize(self.size, Image.Resampling.BILINEAR))
        if self.landscape.light == "night":
            for _ in range(28):
                self.disc(self.rng.random(), self.rng.random() * 0.6, self.rng.uniform(0.003, 0.008), (250, 250, 230))
        if not self.landscape.orb:
            return
        if self.landscape.light == "sunset":
            self.disc(self.rng.uniform(0.3, 0.7), self.rng.uniform(0.42, 0.5), 0.13, (255, 226, 130))
        else:
            moon = self.landscape.light == "night"
            x = self.rng.choice([0.2, 0.8]) + self.rng.uniform(-0.05, 0.05)
            self.disc(x, self.rng.uniform(0.16, 0.22), 0.085, (238, 238, 220) if moon else (255, 226, 60))


def _ridge(place: _Place, base: float, height: float, peaks: int, colour: Colour, snow: Colour | None) -> None:
    step = 1 / peaks
    for number in range(peaks + 1):
        x = number * step + place.rng.uniform(-0.2, 0.2) * step
        tall = height * place.rng.uniform(0.7, 1.0)
        half = step * place.rng.uniform(0.75, 0.95)
        place.area([(x - half, base), (x, base - tall), (x + half, base)], colour)
        if snow is not None:
            cap = 0.28
            left, right = (x - half * cap, base - tall * (1 - cap)), (x + half * cap, base - tall * (1 - cap))
            place.area([left, (x, base - tall), right], snow)


def _mountains(place: _Place) -> None:
    _ridge(place, 0.8, 0.4, 4, place.lit((140, 150, 178)), None)
    _ridge(place, 0.86, 0.46, 3, place.lit((96, 100, 122)), place.lit((244, 246, 250)))
    place.box(0, 0.84, 1, 1, place.lit((66, 132, 66)))


def _sea(place: _Place) -> None:
    place.box(0, 0.6, 1, 1, place.lit((26, 104, 176)))
    wave = place.lit((96, 168, 216))
    for _ in range(14):
        x, y, long = place.rng.random(), place.rng.uniform(0.64, 0.97), place.rng.uniform(0.04, 0.12)
        place.box(x, y, x + long, y + 0.008, wave)
    if place.landscape.special:
        x = place.rng.uniform(0.3, 0.6)
        place.area([(x, 0.66), (x + 0.2, 0.66), (x + 0.16, 0.72), (x + 0.04, 0.72)], place.lit((130, 70, 36)))
        place.area([(x + 0.09, 0.45), (x + 0.09, 0.645), (x + 0.2, 0.645)], place.lit((246, 246, 240)))


def _tree(place: _Place, x: float, base: float, tall: float, leaf: Colour) -> None:
    place.box(x - tall * 0.05, base - tall * 0.25, x + tall * 0.05, base, place.lit((96, 62, 34)))
    for low, high, half in ((0.2, 0.62, 0.26), (0.42, 0.84, 0.21), (0.64, 1.0, 0.15)):
        place.area(
            [(x - tall * half, base - tall * low), (x, base - tall * high), (x + tall * half, base - tall * low)], leaf
        )


def _forest(place: _Place) -> None:
    place.box(0, 0.7, 1, 1, place.lit((84, 140, 60)))
    for number in range(8):
        _tree(place, (number + place.rng.random()) / 8, 0.76, place.rng.uniform(0.3, 0.42), place.lit((44, 104, 60)))
    for number in range(4):
        x = (number + place.rng.uniform(0.2, 0.8)) / 4
        _tree(place, x, place.rng.uniform(0.88, 0.95), place.rng.uniform(0.45, 0.55), place.lit((28, 128, 54)))


def _city(place: _Place) -> None:
    dark = place.landscape.light != "day"
    window = (252, 222, 110) if dark else (200, 226, 244)
    left = -0.02
    while left < 1:
        right = left + place.rng.uniform(0.12, 0.19)
        top = place.rng.uniform(0.28, 0.62)
        place.box(
            left,
            top,
            right - 0.015,
            0.94,
            place.lit(place.rng.choice([(96, 108, 132), (120, 124, 140), (76, 86, 116)])),
        )
        wide = (right - left - 0.015) / 4
        for row in range(int((0.88 - top) / 0.075)):
            for column in range(3):
                x = left + wide * (column + 0.7)
                y = top + 0.035 + row * 0.075
                if place.rng.random() < 0.8:
                    place.box(x, y, x + wide * 0.6, y + 0.036, window)
        left = right
    place.box(0, 0.92, 1, 1, place.lit((70, 72, 78)))
    if place.landscape.special:
        for _ in range(3):
            x, y = place.rng.uniform(0.05, 0.8), place.rng.uniform(0.08, 0.3)
            colour = place.rng.choice([(220, 50, 50), (40, 200, 220), (250, 180, 40)])
            place.area([(x, y + 0.05), (x + 0.04, y), (x + 0.1, y), (x + 0.15, y + 0.05)], colour)
            place.box(x + 0.05, y + 0.012, x + 0.09, y + 0.034, (220, 240, 250))


def _hills(place: _Place) -> None:
    for base, colour in ((0.66, (120, 176, 84)), (0.76, (86, 154, 66)), (0.87, (58, 128, 54))):
        phase, waves = place.rng.uniform(0, math.tau), place.rng.uniform(0.8, 1.6)
        crest = [(step / 24, base + 0.05 * math.sin(phase + waves * math.tau * step / 24)) for step in range(25)]
        place.area([(0, 1), *crest, (1, 1)], place.lit(colour))


def _sky(place: _Place) -> None:
    """Mostly sky over a dark strip of land, with clouds by day and more stars by night."""
    if place.landscape.light == "night":
        for _ in range(40):
            place.disc(place.rng.random(), place.rng.random() * 0.85, place.rng.uniform(0.004, 0.01), (252, 252, 236))
    else:
        cloud = place.lit((250, 250, 252))
        for _ in range(3):
            x, y = place.rng.uniform(0.1, 0.85), place.rng.uniform(0.2, 0.6)
            for dx, dy, radius in ((-0.07, 0.015, 0.05), (0, -0.01, 0.07), (0.08, 0.015, 0.05)):
                place.disc(x + dx, y + dy, radius, cloud)
    place.box(0, 0.9, 1, 1, place.lit((50, 92, 56)))


def _planet(place: _Place) -> None:
    place.disc(place.rng.uniform(0.7, 0.85), place.rng.uniform(0.2, 0.3), 0.14, (214, 120, 90))
    ground = place.lit((178, 92, 58))
    place.box(0, 0.7, 1, 1, ground)
    _ridge(place, 0.72, 0.16, 4, ground, None)
    crater = mixed(ground, (0, 0, 0), 0.25)
    width, height = place.size
    for _ in range(5):
        x, y = place.rng.random() * width, place.rng.uniform(0.77, 0.96) * height
        place.pen.ellipse((x - width * 0.06, y - height * 0.016, x + width * 0.06, y + height * 0.016), fill=crater)
    if place.landscape.special:
        _explorer(place, place.rng.uniform(0.38, 0.52))


def _explorer(place: _Place, x: float) -> None:
    """A figure in a white suit with a visor."""
    suit, shade = (236, 238, 242), (170, 176, 188)
    place.box(x - 0.055, 0.62, x - 0.012, 0.84, suit)
    place.box(x + 0.012, 0.62, x + 0.055, 0.84, suit)
    place.box(x - 0.09, 0.43, x + 0.09, 0.56, shade)  # pack
    place.box(x - 0.065, 0.42, x + 0.065, 0.65, suit)
    place.box(x - 0.11, 0.44, x - 0.075, 0.62, suit)
    place.box(x + 0.075, 0.44, x + 0.11, 0.62, suit)
    place.disc(x, 0.36, 0.075, suit)
    place.disc(x, 0.36, 0.05, (40, 60, 110))


def _house(place: _Place) -> None:
    place.box(0, 0.72, 1, 1, place.lit((88, 158, 72)))
    left = place.rng.uniform(0.2, 0.34)
    right, middle = left + 0.46, left + 0.23
    place.box(left, 0.5, right, 0.82, place.lit(place.rng.choice([(238, 226, 204), (226, 190, 150), (236, 236, 236)])))
    place.area(
        [(left - 0.06, 0.5), (left + 0.06, 0.28), (right - 0.06, 0.28), (right + 0.06, 0.5)], place.lit((164, 60, 48))
    )
    place.box(middle - 0.05, 0.64, middle + 0.05, 0.82, place.lit((110, 66, 38)))
    window = (252, 222, 110) if place.landscape.light != "day" else (150, 204, 236)
    for x in (left + 0.05, right - 0.13):
        place.box(x, 0.57, x + 0.08, 0.66, window)
    if place.landscape.special:
        for column in range(3):
            x = left + 0.07 + column * 0.115
            place.area(
                [(x - 0.01, 0.46), (x + 0.005, 0.32), (x + 0.09, 0.32), (x + 0.095, 0.46)], place.lit((24, 44, 110))
            )
            place.area(
                [(x - 0.002, 0.395), (x, 0.385), (x + 0.092, 0.385), (x + 0.092, 0.395)], place.lit((190, 204, 230))
            )


_KINDS: dict[str, Callable[[_Place], None]] = {
    "mountains": _mountains,
    "sea": _sea,
    "forest": _forest,
    "city": _city,
    "hills": _hills,
    "sky": _sky,
    "planet": _planet,
    "house": _house,
}
KINDS = tuple(_KINDS)
