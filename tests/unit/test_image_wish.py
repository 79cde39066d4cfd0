from fractions import Fraction
from typing import Any

import pytest

from deployments.settings import ImageSpec
from pipeline.errors import InvalidField
from pipeline.image_parameters import ImageFormat, ImageParameters, ImageTask, Sampler
from pipeline.image_wish import ImageWish, Quality, is_within

RULES = ImageSpec(width=512, height=512, steps=20, guidance_scale=5, max_pixels=1024 * 1024, max_steps=60, max_images=4)


def resolve(wish: ImageWish, *, task: ImageTask = ImageTask.TEXT, rules: ImageSpec = RULES) -> ImageParameters:
    return wish.resolve(rules, task=task, prompt="a boat", model_id="org/painter", new_seed=lambda: 7)


def refusal(wish: ImageWish) -> str:
    with pytest.raises(InvalidField) as refused:
        resolve(wish)
    return refused.value.message


def test_a_wish_for_nothing_is_what_the_model_does():
    assert resolve(ImageWish()) == ImageParameters(
        prompt="a boat", seed=7, steps=20, guidance_scale=5, width=512, height=512
    )


def test_a_seed_is_chosen_once_and_for_all():
    assert ImageWish().resolve(RULES, task=ImageTask.TEXT, prompt="", model_id="m").seed < 2**32
    assert resolve(ImageWish(seed=0)).seed == 0


def test_everything_that_is_wished_for_is_taken():
    wish = ImageWish(
        prompt="a ship",
        negative_prompt="storm",
        styles=("ink", "blue"),
        seed=3,
        batch_size=2,
        iterations=2,
        steps=9,
        guidance_scale=1.5,
        width=300,
        height=200,
        strength=0.4,
        upscale=2,
        scheduler=Sampler.EULER,
        format=ImageFormat.WEBP,
    )
    assert resolve(wish, task=ImageTask.IMAGE) == ImageParameters(
        task=ImageTask.IMAGE,
        prompt="a ship, ink, blue",
        negative_prompt="storm",
        seed=3,
        images=4,
        steps=9,
        guidance_scale=1.5,
        width=300,
        height=200,
        strength=0.4,
        upscale=2,
        scheduler=Sampler.EULER,
        format=ImageFormat.WEBP,
    )


def test_without_words_nothing_is_guided():
    parameters = resolve(ImageWish(prompt="x", negative_prompt="y", styles=("z",)), task=ImageTask.NOTHING)
    assert (parameters.prompt, parameters.negative_prompt, parameters.guided) == ("", "", False)


@pytest.mark.parametrize(("quality", "steps"), [(Quality.DRAFT, 10), (Quality.STANDARD, 20), (Quality.HIGH, 40)])
def test_quality_is_steps_unless_those_are_named(quality: Quality, steps: int):
    assert resolve(ImageWish(quality=quality)).steps == steps
    assert resolve(ImageWish(quality=quality, steps=13)).steps == 13


def test_quality_never_takes_more_steps_than_are_allowed():
    many = RULES.model_copy(update={"steps": 50})
    assert resolve(ImageWish(quality=Quality.HIGH), rules=many).steps == 60
    assert resolve(ImageWish(quality=Quality.HIGH, scheduler=Sampler.LCM), rules=many).steps == 50


@pytest.mark.parametrize(
    ("wish", "size"),
    [
        ({"aspect_ratio": Fraction(16, 9)}, (680, 384)),
        ({"aspect_ratio": Fraction(1)}, (512, 512)),
        ({"aspect_ratio": Fraction(3, 4), "width": 300}, (300, 400)),
        ({"aspect_ratio": Fraction(3, 4), "height": 400}, (304, 400)),
        ({"aspect_ratio": Fraction(3, 4), "width": 300, "height": 100}, (300, 100)),
        ({"width": 100}, (100, 512)),
        ({"aspect_ratio": Fraction(99, 1)}, (4096, 40)),
        ({"aspect_ratio": Fraction(1, 99)}, (48, 4096)),
        ({"aspect_ratio": Fraction(1, 99), "width": 1024}, (1024, 1024)),
    ],
)
def test_an_aspect_ratio_gives_the_side_that_is_missing(wish: dict[str, Any], size: tuple[int, int]):
    parameters = resolve(ImageWish(**wish))
    assert (parameters.width, parameters.height) == size


def test_a_picture_that_starts_from_another_has_its_size_unless_one_is_named():
    assert resolve(ImageWish(), task=ImageTask.IMAGE).width is None
    assert resolve(ImageWish(width=64), task=ImageTask.IMAGE).height == 512


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"width": 2049}, "width: got 2049 x 512 pixels, allowed is at most 1048576 pixels in all for org/painter"),
        (
            {"height": 4096, "paths": {"height": "a.h"}},
            "a.h: got 512 x 4096 pixels, allowed is at most 1048576 pixels in all for org/painter",
        ),
        ({"steps": 61}, "steps: got 61, allowed is an integer from 1 to 60 for org/painter"),
        (
            {"steps": 51, "scheduler": Sampler.LCM},
            "steps: got 51, allowed is an integer from 1 to 50 for org/painter with the scheduler lcm",
        ),
        ({"batch_size": 5}, "batch_size: got 5 pictures, allowed is at most 4 pictures of org/painter at a time"),
        (
            {"batch_size": 2, "iterations": 3, "paths": {"iterations": "n_iter"}},
            "n_iter: got 6 pictures, allowed is at most 4 pictures of org/painter at a time",
        ),
    ],
)
def test_what_is_too_much_is_named_as_the_client_named_it(wish: dict[str, Any], message: str):
    assert refusal(ImageWish(**wish)) == message


def test_at_the_limits_it_is_not_refused():
    assert resolve(ImageWish(width=2048)).width == 2048
    parameters = resolve(ImageWish(width=1024, height=1024, steps=60, batch_size=2, iterations=2))
    assert (parameters.images, parameters.steps) == (4, 60)


def test_the_record_gives_back_what_was_stored():
    parameters = resolve(ImageWish(scheduler=Sampler.UNIPC, format=ImageFormat.JPEG), task=ImageTask.IMAGE)
    assert ImageParameters.from_record(parameters.to_record()) == parameters
    assert ImageParameters.from_record(resolve(ImageWish()).to_record()) == resolve(ImageWish())


@pytest.mark.parametrize(
    "raw", [b"{", b'{"task": "sculpture"}', b'{"task": "text-to-image", "format": "png", "mood": 1}']
)
def test_a_record_of_another_version_is_an_error(raw: bytes):
    with pytest.raises((ValueError, KeyError, TypeError)):
        ImageParameters.from_record(raw)


@pytest.mark.parametrize("sampler", Sampler)
def test_every_scheduler_has_its_name_and_its_class(sampler: Sampler):
    assert Sampler.parse(sampler.value) is sampler
    assert sampler in {Sampler.parse(name) for name in Sampler.names()}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("Euler a", Sampler.EULER_A),
        ("DPM++ 2M Karras", Sampler.DPMPP_2M_KARRAS),
        ("dpm++ 2m", Sampler.DPMPP_2M),
        ("EulerDiscreteScheduler", Sampler.EULER),
        ("", None),
        ("Automatic", None),
    ],
)
def test_other_spellings_of_schedulers(name: str, sampler: Sampler | None):
    assert Sampler.parse(name) is sampler


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(ValueError, match="unknown"):
        Sampler.parse("magic")


def test_what_was_resolved_for_one_model_may_be_too_much_for_another():
    small = RULES.model_copy(
        update={"width": 64, "height": 64, "max_pixels": 64 * 64, "max_steps": 10, "max_images": 1}
    )
    assert is_within(resolve(ImageWish(), rules=small.model_copy(update={"steps": 10})), small)
    # Each of them is within the other's limits as a wish: its own size, steps and number are meant there.
    for rules, wish in (
        (RULES.model_copy(update={"steps": 10}), ImageWish()),
        (small.model_copy(update={"steps": 20, "max_steps": 20}), ImageWish()),
    ):
        resolve(wish, rules=small.model_copy(update={"steps": 10}))
        assert not is_within(resolve(wish, rules=rules), small)
    # As large as the picture it starts from.
    assert is_within(resolve(ImageWish(steps=10), task=ImageTask.IMAGE), small)
