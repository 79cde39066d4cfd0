"""Opening images that somebody sent, without being taken down by one (SECURITY §2.6).

What comes out is pixels and nothing else: no EXIF, no colour profile, no comments, whatever the file carried.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from pipeline.errors import ClientError, ServerError
from pipeline.files.threads import Threads

#: By their bytes, not by what they are called. No SVG, no TIFF, no PDF: formats with interpreters inside.
FORMATS = ("PNG", "JPEG", "WEBP")
#: Pillow's own limit is 89 million, and only a warning.
MOST_PIXELS = 16_000_000
#: Bytes of an image file.
MOST_BYTES = 20_000_000
#: Until the pixels are there, waiting for a free thread included, seconds.
DEADLINE_S = 10.0
#: Images decoded at the same time. One that outlasts its deadline keeps its thread until it is through (nothing can stop it; the
#: pixel limit makes sure that it ends), so hostile images hold up other images and nothing else.
THREADS = 2


class ImageRefused(ClientError):
    """The image cannot be used."""


class ImageTooSlow(ServerError):
    """The image took too long to decode; try again."""

    status = 503
    retry_after_s = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLimits:
    """What an image may be. The defaults suit an input of a prompt."""

    bytes: int = MOST_BYTES
    pixels: int = MOST_PIXELS
    deadline_s: float = DEADLINE_S


class ImageReader:
    """Decodes images in threads of its own."""

    def __init__(self, limits: ImageLimits | None = None) -> None:
        self._limits = limits or ImageLimits()
        self._threads = Threads(THREADS, "images")

    async def read(self, data: bytes) -> Image.Image:
        """The picture in ``data``: RGB, upright, transparent parts on white.

        Raises:
            ImageRefused: too many bytes or pixels, several frames, another format, broken.
            ImageTooSlow: not decoded by the deadline.
        """
        if len(data) > self._limits.bytes:
            raise ImageRefused(f"the image has {len(data)} bytes, allowed are {self._limits.bytes}")
        work = asyncio.ensure_future(self._threads.run(decode, data, self._limits.pixels))
        try:
            await asyncio.wait([work], timeout=self._limits.deadline_s)
            if not work.done():
                raise ImageTooSlow
            return work.result()
        finally:
            # Takes effect only while it waits for a thread; otherwise the thread goes on, and its result is dropped.
            work.cancel()

    def close(self) -> None:
        self._threads.close()


def decode(data: bytes, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """As ``ImageReader.read``, but blocking and without a deadline. Raises ImageRefused."""
    try:
        # Reads the header only. The size is checked before a pixel is decoded: 200 bytes can announce 400 million of them.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > most_pixels:
                raise ImageRefused(f"the image has {width} x {height} pixels, allowed are {most_pixels} in all")
            frames = getattr(image, "n_frames", 1)
            if frames != 1:
                raise ImageRefused(f"the image has {frames} frames, allowed is 1")
            return _pixels(image)
    except (DecompressionBombError, DecompressionBombWarning):
        raise ImageRefused(f"the image has more than {most_pixels} pixels") from None
    except UnidentifiedImageError:
        raise ImageRefused(f"the image is in another format, allowed are {', '.join(FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError):
        # Pillow's plugins raise all of these on broken files. Their messages may quote what is in the file.
        raise ImageRefused("the image is broken") from None


def _pixels(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    clean = Image.new("RGB", upright.size, "white")
    if "A" in upright.getbands() or "transparency" in upright.info:
        clean.paste(upright.convert("RGB"), mask=upright.convert("RGBA").getchannel("A"))
    else:
        clean.paste(upright.convert("RGB"))
    return clean


# Between one and two times its limit Pillow only warns, and then decodes. (Process-wide, for filters are; per call they would not
# be safe in threads.)
warnings.simplefilter("error", DecompressionBombWarning)
