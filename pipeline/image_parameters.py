"""How a picture is painted: the values an image model gets, complete and in range, and their form in the store."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import StrEnum

import orjson

#: Above every seed a client may name plus every picture of a request; generators take 64 bits.
MOST_SEED = 2**53


class ImageTask(StrEnum):
    """What a picture is made from."""

    TEXT = "text-to-image"
    #: Another picture, and text.
    IMAGE = "image-to-image"
    #: Nothing but the seed.
    NOTHING = "unconditional-image-generation"


class ImageFormat(StrEnum):
    """Of the file."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return ".jpg" if self is ImageFormat.JPEG else f".{self.value}"


class Sampler(StrEnum):
    """Schedulers that may be asked for by name; a pipeline takes those that fit how its model was trained."""

    DDIM = "ddim"
    DDPM = "ddpm"
    PNDM = "pndm"
    EULER = "euler"
    EULER_A = "euler-a"
    HEUN = "heun"
    DPMPP_2M = "dpm++-2m"
    DPMPP_2M_KARRAS = "dpm++-2m-karras"
    DPMPP_2M_SDE = "dpm++-2m-sde"
    DPMPP_2S = "dpm++-2s"
    UNIPC = "unipc"
    DEIS = "deis"
    LCM = "lcm"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Every spelling that ``parse`` is meant for: ours, the web UI's, diffusers' classes."""
        return (*(sampler.value for sampler in cls), *_ALIASES)

    @classmethod
    def parse(cls, name: str) -> Sampler | None:
        """The scheduler of a name, whatever its case, spaces and hyphens. None for one that leaves it to the model.

        Raises:
            ValueError: there is none of that name.
        """
        plain = _plain(name)
        if plain in ("", "automatic", "auto", "default"):
            return None
        found = _BY_PLAIN_NAME.get(plain)
        if found is None:
            raise ValueError("unknown scheduler")
        return found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower())


#: The names of the stable-diffusion web UI, and of diffusers.
_ALIASES = {
    "DDIM": Sampler.DDIM,
    "DDIMScheduler": Sampler.DDIM,
    "DDPM": Sampler.DDPM,
    "DDPMScheduler": Sampler.DDPM,
    "PLMS": Sampler.PNDM,
    "PNDMScheduler": Sampler.PNDM,
    "Euler": Sampler.EULER,
    "EulerDiscreteScheduler": Sampler.EULER,
    "Euler a": Sampler.EULER_A,
    "Euler ancestral": Sampler.EULER_A,
    "EulerAncestralDiscreteScheduler": Sampler.EULER_A,
    "Heun": Sampler.HEUN,
    "HeunDiscreteScheduler": Sampler.HEUN,
    "DPM++ 2M": Sampler.DPMPP_2M,
    "DPMSolverMultistepScheduler": Sampler.DPMPP_2M,
    "DPM++ 2M Karras": Sampler.DPMPP_2M_KARRAS,
    "DPM++ 2M SDE": Sampler.DPMPP_2M_SDE,
    "DPM++ 2S": Sampler.DPMPP_2S,
    "DPMSolverSinglestepScheduler": Sampler.DPMPP_2S,
    "UniPC": Sampler.UNIPC,
    "UniPCMultistepScheduler": Sampler.UNIPC,
    "DEIS": Sampler.DEIS,
    "DEISMultistepScheduler": Sampler.DEIS,
    "LCM": Sampler.LCM,
    "LCMScheduler": Sampler.LCM,
}
_BY_PLAIN_NAME = {_plain(name): sampler for name, sampler in _ALIASES.items()} | {
    _plain(sampler.value): sampler for sampler in Sampler
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageParameters:
    """One request for pictures, as every attempt at it paints them: the seed is chosen already, so a second attempt makes the
    same pictures."""

    task: ImageTask = ImageTask.TEXT
    #: What is to be seen, styles included. Empty without a text.
    prompt: str = ""
    negative_prompt: str = ""
    #: Of the first picture; the next ones count on from it.
    seed: int
    #: Pictures, ≥ 1.
    images: int = 1
    #: Denoising steps of one picture.
    steps: int
    #: Up to 1 the text is followed without guidance, and the negative prompt has no effect.
    guidance_scale: float
    #: Pixels of the picture that is painted, which need not be a multiple of anything. None: as the picture it starts from.
    width: int | None
    height: int | None
    #: None: the model's own.
    scheduler: Sampler | None = None
    #: Of the picture it starts from, how much is painted anew: 0 nothing, 1 all. Only for IMAGE.
    strength: float = 0.75
    #: The file is so many times as wide and high as what is painted.
    upscale: float = 1.0
    format: ImageFormat = ImageFormat.PNG

    @property
    def guided(self) -> bool:
        """Whether each step computes the model twice (classifier-free guidance)."""
        return self.guidance_scale > 1

    def to_record(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def from_record(cls, raw: bytes) -> ImageParameters:
        """Raises ValueError, KeyError or TypeError for what another version of the service wrote and this one cannot read."""
        stored = orjson.loads(raw)
        unknown = stored.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError("unknown image parameters")
        scheduler = stored.get("scheduler")
        return cls(
            **{
                **stored,
                "task": ImageTask(stored["task"]),
                "format": ImageFormat(stored["format"]),
                "scheduler": None if scheduler is None else Sampler(scheduler),
            }
        )
