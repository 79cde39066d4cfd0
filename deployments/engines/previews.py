"""What there is to see of a picture while it is painted: small, cheap, and never large on the way to whoever looks."""

from __future__ import annotations

import io
import logging
from typing import Any

import torch
from PIL import Image

logger = logging.getLogger("ray.serve")

#: The longer side, pixels.
SIDE = 128
#: Most bytes of one; the log of a running prompt holds a few.
MOST_BYTES = 6 * 1024
#: Of WebP; one that is too large is made again with the next one, then there is none.
QUALITIES = (50, 15)


class Previewer:
    """Decodes shrunken latents of a pipeline, so it costs a fraction of a step."""

    def __init__(self, pipe: Any) -> None:
        vae = getattr(pipe, "vae", None)
        self._vae = vae
        self._processor = getattr(pipe, "image_processor", None)
        # Such a decoder gives nothing but black in half precision, and lifting it for a preview would take too long.
        overflows = vae is not None and vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
        self._works = vae is not None and self._processor is not None and not overflows

    def preview(self, latents: Any) -> bytes:
        """A WebP of the first picture of a batch; empty where the model gives none. Blocks."""
        if not self._works or latents.ndim != 4:
            return b""
        try:
            return webp(self._decode(latents[:1]))
        except Exception as error:
            # Whatever it is: a pipeline of an unknown build still paints, and that is what counts.
            logger.warning("no previews of this model (%s)", type(error).__name__)
            self._works = False
            return b""

    def _decode(self, latents: Any) -> Image.Image:
        vae, processor = self._vae, self._processor
        assert vae is not None
        assert processor is not None
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        scale = min(1.0, SIDE / (factor * max(latents.shape[-2:])))
        size = [max(1, round(side * scale)) for side in latents.shape[-2:]]
        with torch.no_grad():
            small = torch.nn.functional.interpolate(latents.float(), size=size, mode="area").to(vae.dtype)
            small = small / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0)
            decoded = vae.decode(small, return_dict=False)[0]
        (image,) = processor.postprocess(decoded, output_type="pil")
        return image


def webp(image: Image.Image) -> bytes:
    """At most ``MOST_BYTES``, or empty."""
    image.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality)
        if file.tell() <= MOST_BYTES:
            return file.getvalue()
    return b""
