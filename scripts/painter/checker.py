"""Judges by pixels which shape of which colour a picture shows; knows nothing of the model that painted it.

The ground is the commonest colour of the border. What differs from it is cut out, its largest connected part is scaled
to a square and held against the outline of every shape.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from scripts.painter.palette import distance, lab, nearest
from scripts.painter.shapes import SHAPES, mask

#: Pictures are looked at in this size, pixels a side.
_SIDE = 96
#: From here on a pixel is not ground any more, in the units of ``palette.distance``.
_FOREGROUND = 18.0
#: Smaller parts are specks: share of the picture.
_LEAST_AREA = 0.012
#: How much of a shape and its template must overlap to be called that shape.
_LEAST_OVERLAP = 0.72
#: Taller or wider than this it is none of the shapes, all of which are about as high as wide.
_MOST_UNEVEN = 1.45
#: A colour further away from every named one has no name.
_FARTHEST_COLOUR = 34.0
#: A picture whose border is not of one colour, but for this share of it, shows no shape on a ground.
_MOST_UNEVEN_BORDER = 0.3
#: Share of a shape that must be of its colour.
_LEAST_ALIKE = 0.7
#: Shapes are compared in this size, pixels a side.
_TEMPLATE = 48


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is on a picture; None where nothing that has a name was found."""

    colour: str | None
    shape: str | None
    #: Of the shape and the outline that fits best, 0..1.
    overlap: float = 0.0
    #: Centre as shares of width and height.
    x: float | None = None
    y: float | None = None


def read(picture: Image.Image) -> Reading:
    """Which single shape of which colour the picture shows."""
    pixels = np.asarray(picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
    tones = lab(pixels)
    border = np.concatenate(
        [tones[:3].reshape(-1, 3), tones[-3:].reshape(-1, 3), tones[:, :3].reshape(-1, 3), tones[:, -3:].reshape(-1, 3)]
    )
    differs = np.linalg.norm(tones - np.median(border, axis=0), axis=-1) > _FOREGROUND
    around = np.linalg.norm(border - np.median(border, axis=0), axis=-1) > _FOREGROUND
    part = _largest_part(differs)
    if around.mean() > _MOST_UNEVEN_BORDER or part.mean() < _LEAST_AREA:
        return Reading(colour=None, shape=None)
    core = _core(part)
    typical = np.median(pixels[core], axis=0)
    colour, apart = nearest(typical)
    alike = distance(pixels[core], typical) < _FARTHEST_COLOUR
    shape, overlap = _shape(part)
    rows, columns = np.nonzero(part)
    return Reading(
        colour=colour if apart <= _FARTHEST_COLOUR and alike.mean() >= _LEAST_ALIKE else None,
        shape=shape,
        overlap=overlap,
        x=float((columns.min() + columns.max() + 1) / 2 / _SIDE),
        y=float((rows.min() + rows.max() + 1) / 2 / _SIDE),
    )


def _largest_part(differs: np.ndarray) -> np.ndarray:
    """The largest 4-connected part."""
    unseen = differs.copy()
    best: list[tuple[int, int]] = []
    while unseen.any():
        row, column = (int(index) for index in np.argwhere(unseen)[0])
        unseen[row, column] = False
        part, edge = [(row, column)], deque([(row, column)])
        while edge:
            row, column = edge.popleft()
            for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if 0 <= near[0] < _SIDE and 0 <= near[1] < _SIDE and unseen[near]:
                    unseen[near] = False
                    part.append(near)
                    edge.append(near)
        if len(part) > len(best):
            best = part
    found = np.zeros_like(differs)
    if best:
        found[tuple(np.array(best).T)] = True
    return found


def _core(part: np.ndarray) -> np.ndarray:
    """Without the blurred rim, unless nothing else would be left."""
    inner = part.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(part, step, axis=axis)
    return inner if inner.any() else part


def _shape(part: np.ndarray) -> tuple[str | None, float]:
    rows, columns = np.nonzero(part)
    cut = part[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = cut.shape
    if max(height / width, width / height) > _MOST_UNEVEN:
        return None, 0.0
    scaled = np.asarray(Image.fromarray(cut).resize((_TEMPLATE, _TEMPLATE), Image.Resampling.BILINEAR))
    overlaps = {
        shape: float((scaled & template).sum() / (scaled | template).sum()) for shape, template in _templates().items()
    }
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return (best if overlaps[best] >= _LEAST_OVERLAP else None), overlaps[best]


@cache
def _templates() -> dict[str, np.ndarray]:
    """Each shape, cut out and scaled as the parts of pictures are."""
    side = 8 * _TEMPLATE
    found = {}
    for shape in SHAPES:
        drawn = mask(shape, (side, side), (side / 2, side / 2), side / 2 - 2)
        found[shape] = (
            np.asarray(drawn.crop(drawn.getbbox()).resize((_TEMPLATE, _TEMPLATE), Image.Resampling.BOX)) > 127
        )
    return found
