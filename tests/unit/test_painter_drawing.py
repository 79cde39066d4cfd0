"""What the image model learns from: scenes, their captions, and what is kept back for judging it."""

import itertools
import random

import numpy as np
import pytest

from scripts.painter import scenes
from scripts.painter.drawing import Scene, Thing, draw
from scripts.painter.landscapes import KINDS, LIGHTS, Landscape
from scripts.painter.palette import COLOURS, contrasts, distance, nearest
from scripts.painter.shapes import SHAPES

EVEN = dict.fromkeys(scenes.MAKERS, 1.0)


def some(count: int, seed: int = 0) -> list[scenes.Captioned]:
    return list(itertools.islice(scenes.training_scenes(seed, EVEN), count))


def pixels(scene: Scene, width: int = 64, height: int = 64) -> np.ndarray:
    return np.asarray(draw(scene, width, height))


def test_a_scene_is_drawn_the_same_every_time():
    for one in some(10):
        assert np.array_equal(pixels(one.scene), pixels(one.scene))


def test_the_same_seed_thinks_up_the_same_scenes():
    assert some(20, seed=5) == some(20, seed=5)
    assert some(20, seed=5) != some(20, seed=6)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 96)])
def test_a_picture_has_the_size_asked_for(size: tuple[int, int]):
    assert all(draw(one.scene, *size).size == size for one in some(10))


def test_a_thing_has_its_colour_at_its_place_and_the_ground_elsewhere():
    thing = Thing(shape="square", colour="red", x=0.25, y=0.75, radius=0.2)
    picture = pixels(Scene(seed=1, things=(thing,), ground="yellow"))
    assert nearest(picture[48, 16])[0] == "red"
    assert nearest(picture[16, 48])[0] == "yellow"


def test_a_ring_shows_the_ground_inside():
    picture = pixels(Scene(seed=1, things=(Thing(shape="ring", colour="blue", radius=0.4),), ground="white"))
    assert nearest(picture[32, 32])[0] == "white"
    assert nearest(picture[32, 13])[0] == "blue"


@pytest.mark.parametrize("texture", ["striped", "spotted"])
def test_a_texture_shows(texture: str):
    thing = Thing(shape="square", colour="green", radius=0.4, texture=texture)
    inside = pixels(Scene(seed=1, things=(thing,), ground="white"), 128, 128)[40:90, 40:90].reshape(-1, 3)
    assert {"green"} < {nearest(colour)[0] for colour in np.unique(inside, axis=0)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_landscape_differs_by_the_hour(kind: str):
    pictures = [pixels(Scene(seed=3, landscape=Landscape(kind=kind, light=light))) for light in LIGHTS]
    for one, other in itertools.combinations(pictures, 2):
        assert distance(one, other).mean() > 10


@pytest.mark.parametrize("kind", ["city", "house", "planet", "sea"])
def test_what_a_landscape_may_have_shows(kind: str):
    plain, special = (pixels(Scene(seed=3, landscape=Landscape(kind=kind, special=has))) for has in (False, True))
    assert (distance(plain, special) > 10).mean() > 0.01


def test_captions_of_single_shapes_name_colour_shape_and_ground():
    rng = random.Random(0)
    for _ in range(200):
        one = scenes.single(rng)
        (thing,) = one.scene.things
        assert f"{thing.colour} {thing.shape}" in one.caption
        assert one.scene.ground is None or one.scene.ground in one.caption.split(thing.shape)[1]


def test_captions_of_places_match_where_the_thing_is():
    rng = random.Random(0)
    for one in (scenes.single(rng) for _ in range(400)):
        (thing,) = one.scene.things
        for word, there in (
            ("left", thing.x < 0.4),
            ("right", thing.x > 0.6),
            ("top", thing.y < 0.4),
            ("bottom", thing.y > 0.6),
        ):
            assert (word in one.caption.replace(",", "").split()) is there, one.caption


def test_captions_of_several_things_count_them():
    rng = random.Random(0)
    for one in (scenes.several(rng) for _ in range(100)):
        count = {"two": 2, "three": 3, "four": 4}[next(word for word in one.caption.split() if word in scenes._COUNTS)]
        assert len(one.scene.things) == count


def test_things_stand_out_from_the_ground():
    for one in some(300):
        ground = one.scene.ground
        assert ground is None or all(contrasts(thing.colour, ground) for thing in one.scene.things)


def test_every_colour_and_shape_is_taught():
    rng = random.Random(0)
    taught = [scenes.single(rng).scene.things[0] for _ in range(2000)]
    assert {(thing.colour, thing.shape) for thing in taught} == set(itertools.product(COLOURS, SHAPES))


def test_what_is_kept_back_for_judging_is_never_drawn_for_training():
    kept = scenes.held_out_prompts(200)
    assert len({one.caption for one in kept}) == 200
    combinations = {(*_named(one), one.scene.ground) for one in kept}
    assert all(scenes.held_out(*combination) for combination in combinations)
    taught = some(4000)
    assert not {one.caption for one in taught} & {one.caption for one in kept}
    for one in taught:
        assert not {(thing.colour, thing.shape, one.scene.ground) for thing in one.scene.things} & combinations


def test_what_is_kept_back_is_of_every_colour_and_shape():
    named = [_named(one) for one in scenes.held_out_prompts(200)]
    assert {colour for colour, _ in named} == set(COLOURS)
    assert {shape for _, shape in named} == set(SHAPES)


def _named(one: scenes.Captioned) -> tuple[str, str]:
    (thing,) = one.scene.things
    return thing.colour, thing.shape
