"""The named colours that the painter knows, and how far apart two colours look."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 39, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 218, 40),
    "green": (44, 150, 60),
    "blue": (40, 90, 215),
    "purple": (128, 50, 170),
    "pink": (255, 135, 185),
    "brown": (120, 72, 36),
    "black": (18, 18, 18),
    "white": (248, 248, 248),
    "gray": (140, 140, 140),
}

# sRGB to CIE XYZ under D65, and the white point that Lab is relative to.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def lab(rgb: object) -> np.ndarray:
    """CIE Lab of sRGB values 0..255 in the last axis."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    root = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * 841 / 108 + 4 / 29)
    return np.stack(
        [
            116 * root[..., 1] - 16,
            500 * (root[..., 0] - root[..., 1]),
            200 * (root[..., 1] - root[..., 2]),
        ],
        axis=-1,
    )


def distance(one: object, other: object) -> np.ndarray:
    """How different colours look (CIE76): 2 is just visible, red and green are 100 apart."""
    return np.asarray(np.linalg.norm(lab(one) - lab(other), axis=-1))


def nearest(rgb: object) -> tuple[str, float]:
    """The name of the colour that looks most like it, and how far away that is."""
    names = list(COLOURS)
    apart = distance(rgb, np.array([COLOURS[name] for name in names]))
    best = int(np.argmin(apart))
    return names[best], float(apart[best])


def contrasts(one: str, other: str) -> bool:
    """Whether an object of one named colour is plain to see on the other."""
    return bool(distance(COLOURS[one], COLOURS[other]) >= 38)


def jittered(colour: Colour, rng: random.Random, by: int = 5) -> Colour:
    """Nearly the same colour: what has a name is a region, not a point."""
    return as_colour(channel + rng.randint(-by, by) for channel in colour)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """``share`` of the other colour in the one."""
    return as_colour(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def as_colour(channels: Iterable[int]) -> Colour:
    red, green, blue = (max(0, min(255, channel)) for channel in channels)
    return red, green, blue
