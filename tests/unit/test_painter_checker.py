"""The judge of the image model: right about what is drawn, and not to be pleased by anything else."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from scripts.painter.checker import Reading, read
from scripts.painter.drawing import Scene, Thing, draw
from scripts.painter.landscapes import KINDS, Landscape
from scripts.painter.palette import COLOURS, contrasts
from scripts.painter.scenes import held_out_prompts
from scripts.painter.shapes import SHAPES


def picture(shape: str, colour: str, ground: str, radius: float = 0.3, size: int = 128) -> Image.Image:
    thing = Thing(shape=shape, colour=colour, x=0.48, y=0.53, radius=radius)
    return draw(Scene(seed=7, things=(thing,), ground=ground), size, size)


def named(reading: Reading) -> tuple[str | None, str | None]:
    return reading.colour, reading.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_every_colour_is_read(shape: str):
    for colour, ground in itertools.product(COLOURS, ("white", "black", "green")):
        if contrasts(colour, ground):
            assert named(read(picture(shape, colour, ground))) == (colour, shape), ground


def test_all_that_the_model_is_judged_by_would_be_right_if_it_drew_like_us():
    for one in held_out_prompts(60):
        (thing,) = one.scene.things
        assert named(read(draw(one.scene, 256, 256))) == (thing.colour, thing.shape), one.caption


@pytest.mark.parametrize("radius", [0.15, 0.43])
def test_size_does_not_matter(radius: float):
    assert named(read(picture("star", "blue", "white", radius))) == ("blue", "star")


def test_a_soft_and_slightly_noisy_picture_is_read():
    soft = picture("heart", "red", "white", size=256).filter(ImageFilter.GaussianBlur(3))
    noise = np.random.default_rng(0).normal(0, 8, (256, 256, 3))
    noisy = Image.fromarray((np.asarray(soft) + noise).clip(0, 255).astype(np.uint8))
    assert named(read(noisy)) == ("red", "heart")


def test_the_place_is_read():
    thing = Thing(shape="circle", colour="red", x=0.25, y=0.75, radius=0.2)
    reading = read(draw(Scene(seed=1, things=(thing,), ground="white"), 128, 128))
    assert (reading.x, reading.y) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02))


@pytest.mark.parametrize("asked", SHAPES)
def test_another_shape_is_not_taken_for_the_one_asked_for(asked: str):
    for drawn in set(SHAPES) - {asked}:
        assert read(picture(drawn, "red", "white")).shape != asked


def test_another_colour_is_not_taken_for_the_one_asked_for():
    for asked, drawn in itertools.permutations(COLOURS, 2):
        if contrasts(drawn, "gray"):
            assert read(picture("circle", drawn, "gray")).colour != asked


def test_an_empty_picture_shows_nothing():
    assert named(read(Image.new("RGB", (128, 128), "white"))) == (None, None)


def test_specks_show_nothing():
    speckled = Image.new("RGB", (128, 128), "white")
    for at in range(10, 120, 10):
        speckled.putpixel((at, at), (255, 0, 0))
    assert named(read(speckled)) == (None, None)


def test_noise_has_no_shape():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert read(Image.fromarray(noise)).shape is None


def test_a_long_bar_has_no_shape():
    bar = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(bar).rectangle((10, 50, 118, 78), fill=(200, 0, 0))
    assert named(read(bar)) == ("red", None)


def test_a_torn_shape_has_no_shape():
    torn = picture("square", "red", "white", radius=0.4)
    pen = ImageDraw.Draw(torn)
    for at in range(0, 128, 24):
        pen.rectangle((at, 0, at + 9, 84), fill="white")
    assert read(torn).shape is None


def test_a_shape_of_two_colours_has_no_colour():
    mixed = picture("square", "red", "white", radius=0.4)
    mixed.paste(picture("square", "blue", "white", radius=0.4).crop((0, 0, 128, 68)), (0, 0))
    assert named(read(mixed)) == (None, "square")


def test_a_landscape_shows_no_shape():
    for kind in KINDS:
        assert read(draw(Scene(seed=1, landscape=Landscape(kind=kind)), 128, 128)).shape is None, kind


def test_a_colour_between_all_names_has_none():
    odd = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(odd).ellipse((30, 30, 98, 98), fill=(0, 255, 255))
    assert named(read(odd)) == (None, "circle")
