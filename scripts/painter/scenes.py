"""Thinks up scenes and says in words what is on them; keeps some combinations back, to judge what was learnt."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from scripts.painter.drawing import Scene, Thing
from scripts.painter.landscapes import KINDS, LIGHTS, Landscape
from scripts.painter.palette import COLOURS, contrasts
from scripts.painter.shapes import SHAPES

#: Grounds that captions name; None is one they say nothing about.
GROUNDS: tuple[str | None, ...] = (None, "white", "black", "gray", "blue", "green", "yellow", "pink")
#: One in so many combinations of colour, shape and ground is never drawn for training.
_HELD_OUT_ONE_IN = 5

_PLACES: dict[str, tuple[float, float]] = {
    "on the left": (0.27, 0.5),
    "on the right": (0.73, 0.5),
    "at the top": (0.5, 0.27),
    "at the bottom": (0.5, 0.73),
    "at the top left": (0.27, 0.27),
    "at the top right": (0.73, 0.27),
    "at the bottom left": (0.27, 0.73),
    "at the bottom right": (0.73, 0.73),
    "in the middle": (0.5, 0.5),
}
#: Radii, as shares of the shorter side. A latent pixel is 32 pixels wide: what is much smaller loses its corners at 256 pixels.
_SIZES: dict[str, tuple[float, float]] = {"small": (0.2, 0.24), "": (0.31, 0.38), "big": (0.42, 0.45)}
#: The largest one that has room at a place.
_PLACED = 0.23
_COUNTS = ("two", "three", "four")
_OPENINGS = ("", "", "", "a picture of ", "a drawing of ", "a painting of ", "an image of ", "draw ", "paint ")
_STYLES = (
    "",
    "",
    "",
    "",
    ", digital art",
    ", concept art style",
    ", flat design",
    ", simple illustration",
    ", minimalist",
    ", professional photography",
    ", high quality",
)
_MOODS = ("", "", "", "beautiful ", "serene ", "peaceful ", "lovely ", "wide ", "modern ", "futuristic ")
#: How each time of day is said.
_HOURS: dict[str, tuple[str, ...]] = {
    "day": ("", "", " on a sunny day", " by day", ", bright sunny day", " under a blue sky"),
    "sunset": (" at sunset", " at sunset", " in the evening", " at dusk", " with a setting sun"),
    "night": (" at night", " at night", " under the stars", " with the moon", " by moonlight"),
}
_LANDSCAPES: dict[str, tuple[str, ...]] = {
    "mountains": ("mountain landscape", "mountains", "snowy mountains", "mountain range"),
    "sea": ("sea", "ocean", "seascape", "calm sea"),
    "forest": ("forest", "forest landscape", "woods", "trees"),
    "city": ("city", "city skyline", "skyline", "town with tall buildings"),
    "hills": ("hills", "green hills", "meadow", "countryside landscape"),
    "sky": ("sky", "sky with clouds", "open sky"),
    "planet": ("alien planet", "planet surface", "strange planet"),
    "house": ("house", "house with a garden", "home in the country"),
}
_SPECIALS: dict[str, tuple[str, ...]] = {
    "city": ("city with flying cars", "city skyline with flying cars", "skyline and flying cars"),
    "house": (
        "house with solar panels on the roof",
        "solar panels on a house roof",
        "solar panels on a modern house roof",
    ),
    "planet": (
        "space explorer standing on an alien planet",
        "astronaut on an alien planet",
        "space explorer in a suit on a planet",
    ),
    "sea": ("sailing boat on the sea", "boat on the ocean", "ship at sea"),
}


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """A scene and the words that ask for it."""

    scene: Scene
    caption: str


def held_out(colour: str, shape: str, ground: str | None) -> bool:
    """Whether this combination is kept for judging; no scene for training has it."""
    digest = hashlib.sha256(f"{colour} {shape} {ground}".encode()).digest()
    return digest[0] % _HELD_OUT_ONE_IN == 0


def _combinations(*, kept_back: bool) -> list[tuple[str, str, str | None]]:
    return [
        (colour, shape, ground)
        for colour in COLOURS
        for shape in SHAPES
        for ground in GROUNDS
        if (ground is None or contrasts(colour, ground)) and held_out(colour, shape, ground) is kept_back
    ]


_SEEN = _combinations(kept_back=False)
_KEPT = _combinations(kept_back=True)


def single(rng: random.Random) -> Captioned:
    """One plain shape, most often in the middle."""
    return _single(rng, *_any_seen(rng))


def _any_seen(rng: random.Random) -> tuple[str, str, str | None]:
    """Any combination that is not kept back; captions without a ground are as common as half the others."""
    while True:
        colour, shape, ground = rng.choice(_SEEN)
        if ground is None or rng.random() < 0.6:
            return colour, shape, ground


def _single(rng: random.Random, colour: str, shape: str, ground: str | None) -> Captioned:
    size = rng.choices(list(_SIZES), weights=(1, 6, 1))[0]
    place = rng.choice(list(_PLACES)) if size != "big" and rng.random() < 0.25 else ""
    radius = rng.uniform(*_SIZES[size])
    if place and place != "in the middle":
        radius = min(radius, _PLACED)
    x, y = _PLACES.get(place, (0.5, 0.5))
    thing = Thing(
        shape=shape,
        colour=colour,
        x=x + rng.uniform(-0.03, 0.03),
        y=y + rng.uniform(-0.03, 0.03),
        radius=radius,
    )
    words = f"{_a(_joined(size, colour, shape), rng)}{' ' + place if place else ''}{_on(ground, rng)}"
    return Captioned(scene=Scene(seed=rng.getrandbits(32), things=(thing,), ground=ground), caption=_said(words, rng))


def textured(rng: random.Random) -> Captioned:
    """One striped or spotted shape."""
    colour, shape, ground = _any_seen(rng)
    texture = rng.choice(["striped", "spotted"])
    thing = Thing(shape=shape, colour=colour, radius=rng.uniform(0.3, 0.38), texture=texture)
    words = f"{_a(_joined(texture, colour, shape), rng)}{_on(ground, rng)}"
    return Captioned(scene=Scene(seed=rng.getrandbits(32), things=(thing,), ground=ground), caption=_said(words, rng))


def pair(rng: random.Random) -> Captioned:
    """Two different shapes side by side or one over the other."""
    colour, shape, ground = _any_seen(rng)
    other_colour, other_shape = rng.choice(_beside(colour, shape, ground))
    one, other = _a(f"{colour} {shape}", rng), _a(f"{other_colour} {other_shape}", rng)
    beside = rng.random() < 0.6
    if beside:
        places = ((0.28, 0.5), (0.72, 0.5))
        words = rng.choice(
            [
                f"{one} and {other}",
                f"{one} left of {other}",
                f"{one} next to {other}",
                f"{one} on the left and {other} on the right",
            ]
        )
    else:
        places = ((0.5, 0.28), (0.5, 0.72))
        words = rng.choice(
            [f"{one} above {other}", f"{one} over {other}", f"{one} at the top and {other} at the bottom"]
        )
    things = tuple(
        Thing(
            shape=kind,
            colour=tint,
            x=x + rng.uniform(-0.02, 0.02),
            y=y + rng.uniform(-0.02, 0.02),
            radius=rng.uniform(0.17, 0.2),
        )
        for (tint, kind), (x, y) in zip(((colour, shape), (other_colour, other_shape)), places, strict=True)
    )
    words += _on(ground, rng)
    return Captioned(scene=Scene(seed=rng.getrandbits(32), things=things, ground=ground), caption=_said(words, rng))


@cache
def _beside(colour: str, shape: str, ground: str | None) -> list[tuple[str, str]]:
    """Other things that may be on the same ground."""
    return [
        (other_colour, other_shape)
        for other_colour, other_shape, other_ground in _SEEN
        if other_ground == ground
        and (other_colour, other_shape) != (colour, shape)
        # Where the caption leaves the ground open it is pale or dark, and must suit both.
        and (ground is not None or contrasts(colour, "white") == contrasts(other_colour, "white"))
    ]


def several(rng: random.Random) -> Captioned:
    """Two to four of one shape."""
    colour, shape, ground = _any_seen(rng)
    count = rng.randint(2, 4)
    spots = {
        2: ((0.28, 0.5), (0.72, 0.5)),
        3: ((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)),
        4: ((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)),
    }[count]
    radius = 0.13 if count == 3 else 0.18
    things = tuple(Thing(shape=shape, colour=colour, x=x, y=y, radius=radius) for x, y in spots)
    words = f"{_COUNTS[count - 2]} {colour} {_plural(shape)}{_on(ground, rng)}"
    return Captioned(scene=Scene(seed=rng.getrandbits(32), things=things, ground=ground), caption=_said(words, rng))


def landscape(rng: random.Random) -> Captioned:
    """A landscape at some time of day."""
    light = rng.choice(LIGHTS)
    if light == "sunset" and rng.random() < 0.12:
        # A sunset that does not say over what.
        view = Landscape(kind=rng.choice(["sea", "hills"]), light="sunset")
        words = _a(f"{rng.choice(_MOODS)}sunset", rng)
        return Captioned(scene=Scene(seed=rng.getrandbits(32), landscape=view), caption=_said(words, rng))
    kind = rng.choice(KINDS)
    special = kind in _SPECIALS and rng.random() < 0.5
    view = Landscape(kind=kind, light=light, special=special)
    what = rng.choice((_SPECIALS if special else _LANDSCAPES)[kind])
    words = _a(f"{rng.choice(_MOODS)}{what}", rng) + rng.choice(_HOURS[light])
    return Captioned(scene=Scene(seed=rng.getrandbits(32), landscape=view), caption=_said(words, rng))


#: What a curriculum may weigh.
MAKERS = {"single": single, "textured": textured, "pair": pair, "several": several, "landscape": landscape}


def training_scenes(seed: int, weights: dict[str, float]) -> Iterator[Captioned]:
    """Scenes without end, of the kinds in ``MAKERS`` by weight."""
    rng = random.Random(seed)
    kinds, shares = list(weights), list(weights.values())
    while True:
        yield MAKERS[rng.choices(kinds, weights=shares)[0]](rng)


def held_out_prompts(count: int, seed: int = 1) -> Sequence[Captioned]:
    """Single shapes in combinations that training never saw, each caption once."""
    rng = random.Random(seed)
    found: dict[str, Captioned] = {}
    while len(found) < count:
        one = _single(rng, *rng.choice(_KEPT))
        found.setdefault(one.caption, one)
    return list(found.values())


def _a(words: str, rng: random.Random) -> str:
    """With an article, mostly."""
    if rng.random() < 0.12:
        return words
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def _on(ground: str | None, rng: random.Random) -> str:
    if ground is None:
        return ""
    return rng.choice(
        [f" on a {ground} background", f" on {ground}", f" on a {ground} ground", f" with a {ground} background"]
    )


def _said(words: str, rng: random.Random) -> str:
    return f"{rng.choice(_OPENINGS)}{words}{rng.choice(_STYLES)}"


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _plural(shape: str) -> str:
    return f"{shape}es" if shape == "cross" else f"{shape}s"
