"""Draws scenes: what is on a picture, as values, and the picture of it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from scripts.painter.landscapes import Landscape, paint
from scripts.painter.palette import COLOURS, Colour, contrasts, jittered, mixed
from scripts.painter.shapes import mask

#: Pictures are drawn this many times larger and reduced, which smooths every edge.
_OVERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape on a picture."""

    shape: str
    colour: str
    #: Of the centre, as shares of the width and the height.
    x: float = 0.5
    y: float = 0.5
    #: As a share of the shorter side.
    radius: float = 0.3
    #: ``plain``, ``striped`` or ``spotted``.
    texture: str = "plain"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is on a picture; the seed decides what the words leave open."""

    seed: int
    things: tuple[Thing, ...] = ()
    #: A named colour; None where the caption says nothing, then it is a pale one.
    ground: str | None = None
    #: In place of things on a ground.
    landscape: Landscape | None = None


def draw(scene: Scene, width: int, height: int) -> Image.Image:
    """An RGB picture of the scene, in pixels; the same scene and size give the same picture."""
    rng = random.Random(scene.seed)
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    if scene.landscape is not None:
        canvas = paint(scene.landscape, size, rng)
    else:
        canvas = Image.new("RGB", size, _ground(scene, rng))
        for thing in scene.things:
            _put(canvas, thing, rng)
    return canvas.reduce(_OVERSAMPLING)


def _ground(scene: Scene, rng: random.Random) -> Colour:
    if scene.ground is not None:
        return jittered(COLOURS[scene.ground], rng)
    shade = rng.randint(226, 250)
    pale = jittered((shade, shade, shade), rng, by=5)
    if all(contrasts(thing.colour, "white") for thing in scene.things):
        return pale
    return jittered((62, 70, 84), rng)  # pale things need a dark ground


def _put(canvas: Image.Image, thing: Thing, rng: random.Random) -> None:
    width, height = canvas.size
    radius = thing.radius * min(width, height)
    colour = jittered(COLOURS[thing.colour], rng)
    where = mask(thing.shape, canvas.size, (thing.x * width, thing.y * height), radius)
    if thing.texture == "plain":
        canvas.paste(colour, mask=where)
        return
    other = mixed(colour, (255, 255, 255) if thing.colour != "white" else (60, 60, 60), 0.75)
    textured = Image.new("RGB", canvas.size, colour)
    pen = ImageDraw.Draw(textured)
    step = max(8.0, radius / 2.4)
    if thing.texture == "striped":
        for number in range(int(height / step) + 1):
            if number % 2:
                pen.rectangle((0, number * step, width, (number + 1) * step), fill=other)
    else:
        for row in range(int(height / step) + 1):
            for column in range(int(width / step) + 1):
                x, y, dot = (column + row % 2 / 2) * step, row * step, step * 0.27
                pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=other)
    canvas.paste(textured, mask=where)
