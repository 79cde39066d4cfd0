"""What a client wishes of a picture, whichever API it speaks, and what becomes of it with the model that is to paint."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from math import sqrt
from typing import Protocol

from pipeline.errors import InvalidField, Shown
from pipeline.image_parameters import ImageFormat, ImageParameters, ImageTask, Sampler

#: Pixels of a side.
LEAST_SIDE, MOST_SIDE = 8, 4096
MOST_STEPS = 150
MOST_IMAGES = 16
MOST_GUIDANCE = 30.0
#: Times four in pixels, which a file of the largest picture still bears.
MOST_UPSCALE = 2.0
#: What of a picture is painted anew when the client does not say.
STRENGTH = 0.75
#: Of schedulers for distilled models, which choose among that many; others have no limit of their own.
_MOST_STEPS = {Sampler.LCM: 50}
#: A side that follows from an aspect ratio is a multiple of it.
_ROUND_TO = 8


class Quality(StrEnum):
    """How many steps are taken when the client does not say: a half of the model's own, those, or twice as many."""

    DRAFT = "draft"
    STANDARD = "standard"
    HIGH = "high"

    @property
    def times(self) -> float:
        return {Quality.DRAFT: 0.5, Quality.STANDARD: 1.0, Quality.HIGH: 2.0}[self]


class ImageRules(Protocol):
    """What a model paints when nothing is said, and the most that may be asked of it."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def guidance_scale(self) -> float: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def max_steps(self) -> int: ...
    @property
    def max_images(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageWish:
    """None is "as the model does it"."""

    #: In place of the prompt's own text.
    prompt: str | None = None
    negative_prompt: str = ""
    #: Words that say how it is to look; they follow the prompt.
    styles: tuple[str, ...] = ()
    seed: int | None = None
    #: Pictures at a time, and how many times.
    batch_size: int = 1
    iterations: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    #: Width by height, for the side that is not given, or for both.
    aspect_ratio: Fraction | None = None
    strength: float | None = None
    upscale: float = 1.0
    scheduler: Sampler | None = None
    quality: Quality | None = None
    format: ImageFormat = ImageFormat.PNG
    #: What the client calls a field of this object, for messages; its own name where nothing is said.
    paths: Mapping[str, str] = field(default_factory=dict)

    def resolve(
        self,
        rules: ImageRules,
        *,
        task: ImageTask,
        prompt: str,
        model_id: str,
        new_seed: Callable[[], int] = lambda: secrets.randbelow(2**32),
    ) -> ImageParameters:
        """The parameters for a model.

        Args:
            prompt: the prompt's own text.

        Raises:
            InvalidField: it is more than the model may be asked for; names the field, what it got and what is allowed.
        """
        images = self.batch_size * self.iterations
        if images > rules.max_images:
            name = "batch_size" if self.iterations == 1 else "iterations"
            raise self._refuse(
                name, f"{images} pictures", f"at most {rules.max_images} pictures of {model_id} at a time"
            )
        times = 1.0 if self.quality is None else self.quality.times
        most = (
            rules.max_steps
            if self.scheduler is None
            else min(rules.max_steps, _MOST_STEPS.get(self.scheduler, MOST_STEPS))
        )
        steps = self.steps or min(most, max(1, round(rules.steps * times)))
        if steps > most:
            painter = model_id if most == rules.max_steps else f"{model_id} with the scheduler {self.scheduler}"
            raise self._refuse("steps", str(steps), f"an integer from 1 to {most} for {painter}")
        width, height = self._size(rules, task, model_id)
        words = "" if task is ImageTask.NOTHING else ", ".join([self.prompt or prompt, *self.styles])
        guidance = rules.guidance_scale if self.guidance_scale is None else self.guidance_scale
        return ImageParameters(
            task=task,
            prompt=words,
            negative_prompt="" if task is ImageTask.NOTHING else self.negative_prompt,
            seed=new_seed() if self.seed is None else self.seed,
            images=images,
            steps=steps,
            # Without words there is nothing to be guided by.
            guidance_scale=1.0 if task is ImageTask.NOTHING else guidance,
            width=width,
            height=height,
            scheduler=self.scheduler,
            strength=STRENGTH if self.strength is None else self.strength,
            upscale=self.upscale,
            format=self.format,
        )

    def _size(self, rules: ImageRules, task: ImageTask, model_id: str) -> tuple[int | None, int | None]:
        width, height, ratio = self.width, self.height, self.aspect_ratio
        if task is ImageTask.IMAGE and not (width or height or ratio):
            return None, None
        if ratio is not None and not (width and height):
            width, height = _with_ratio(width, height, ratio, rules)
        width, height = width or rules.width, height or rules.height
        if width * height > rules.max_pixels:
            name = "width" if self.width or not self.height else "height"
            raise self._refuse(
                name, f"{width} x {height} pixels", f"at most {rules.max_pixels} pixels in all for {model_id}"
            )
        return width, height

    def _refuse(self, name: str, got: str, allowed: str) -> InvalidField:
        return InvalidField(self.paths.get(name, name), Shown(got), allowed)


def is_within(parameters: ImageParameters, rules: ImageRules) -> bool:
    """Whether a model may be asked for what was resolved for another. A picture that is as large as the one it starts from is
    made to fit by whoever paints it."""
    pixels = (parameters.width or 0) * (parameters.height or 0)
    return pixels <= rules.max_pixels and parameters.steps <= rules.max_steps and parameters.images <= rules.max_images


def _with_ratio(width: int | None, height: int | None, ratio: Fraction, rules: ImageRules) -> tuple[int, int]:
    """The side that is not given, or both: of as many pixels as the model's own size. Extreme ratios are met as far as sides and
    pixels may go."""
    if width:
        return width, _side(width / ratio, rules.max_pixels // width)
    if height:
        return _side(height * ratio, rules.max_pixels // height), height
    long_enough = sqrt(rules.width * rules.height * ratio)
    width = _side(long_enough, MOST_SIDE)
    return width, _side(width / ratio, rules.max_pixels // width)


def _side(pixels: float | Fraction, most: int) -> int:
    rounded = round(float(pixels) / _ROUND_TO) * _ROUND_TO
    return max(LEAST_SIDE, min(rounded, MOST_SIDE, most // _ROUND_TO * _ROUND_TO))
