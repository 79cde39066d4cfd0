"""Painted pictures as files: the format that was asked for, upscaled, and in a PNG the parameters it was painted with."""

from __future__ import annotations

import io

from PIL import Image, PngImagePlugin

from pipeline.image_parameters import ImageFormat, ImageParameters, ImageTask

#: Of lossy formats, 0 to 100: no artefacts to be seen at normal size.
QUALITY = {ImageFormat.JPEG: 92, ImageFormat.WEBP: 90}
#: Of PNG, 0 to 9: a seventh larger than at 4, in half of the time, which whoever asked for the picture waits for.
PNG_LEVEL = 1
#: Where the stable-diffusion web UI and its kin look for parameters.
KEY = "parameters"


def encode(image: Image.Image, parameters: ImageParameters, *, text: str = "") -> bytes:
    """The file of a picture.

    Args:
        text: goes into a PNG; empty: nothing does.
    """
    if parameters.upscale != 1:
        size = (round(image.width * parameters.upscale), round(image.height * parameters.upscale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    kind = parameters.format
    if kind is ImageFormat.PNG:
        info = PngImagePlugin.PngInfo()
        if text:
            info.add_text(KEY, text)
        image.save(file, "PNG", compress_level=PNG_LEVEL, pnginfo=info)
    else:
        image.save(file, kind.name, quality=QUALITY[kind])
    return file.getvalue()


def describe_parameters(
    parameters: ImageParameters, *, seed: int, size: tuple[int, int], model_id: str, scheduler: str
) -> str:
    """How a picture was painted, in the web UI's form, which its "PNG info" and others read back.

    Args:
        size: as painted, before upscaling.
        scheduler: what the pipeline used when none was asked for.
    """
    words = [parameters.prompt]
    if parameters.negative_prompt:
        words.append(f"Negative prompt: {parameters.negative_prompt}")
    settings = {
        "Steps": parameters.steps,
        "Sampler": parameters.scheduler or scheduler,
        "CFG scale": f"{parameters.guidance_scale:g}",
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model_id,
    }
    if parameters.task is ImageTask.IMAGE:
        settings["Denoising strength"] = f"{parameters.strength:g}"
    if parameters.upscale != 1:
        settings["Hires upscale"] = f"{parameters.upscale:g}"
        settings["Hires upscaler"] = "Lanczos"
    return "\n".join([*words, ", ".join(f"{name}: {value}" for name, value in settings.items())])
