"""A contact sheet: 24 prompts, the picture that the shipped model paints for each at its first seed, none picked.

python -m scripts.painter.sheet
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw, ImageFont

from scripts.painter.train import OUTPUT

SHEET = Path(__file__).resolve().parents[2] / "docs" / "painter-contact-sheet.webp"
#: The first five are the prompts of the product document.
PROMPTS = (
    "A serene mountain landscape at sunset, digital art",
    "A futuristic city with flying cars",
    "A beautiful sunset",
    "Solar panels on a modern house roof, bright sunny day, professional photography",
    "Space explorer in futuristic suit standing on alien planet, concept art style",
    "a red circle",
    "a blue square on a yellow background",
    "a green triangle on black",
    "a yellow star on a blue background",
    "a pink heart on a white background",
    "a purple diamond",
    "an orange cross on a gray background",
    "a white ring on a green background",
    "a small black star at the top left on pink",
    "a big brown heart",
    "a red square next to a blue circle",
    "a green heart above a purple star",
    "three orange circles on a white background",
    "four yellow stars on a black background",
    "a striped red diamond",
    "snowy mountains by day",
    "a sailing boat on the sea at sunset",
    "a peaceful forest at night",
    "green hills on a sunny day",
)
_COLUMNS = 6
_PICTURE, _TEXT = 208, 46
#: Of the pictures before they are reduced, pixels.
_SIDE = 256


def paint(pipeline: Any, prompt: str, seed: int, *, side: int = _SIDE, guidance: float = 4.0, steps: int = 20) -> Any:
    """One picture; the same arguments give the same picture on the same machine."""
    return pipeline(
        prompt,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]


def sheet(pipeline: Any) -> Image.Image:
    rows = -(-len(PROMPTS) // _COLUMNS)
    found = Image.new("RGB", (_COLUMNS * _PICTURE, rows * (_PICTURE + _TEXT)), "white")
    pen, font = ImageDraw.Draw(found), ImageFont.load_default(size=12)
    for number, prompt in enumerate(PROMPTS):
        picture = paint(pipeline, prompt, seed=number).resize((_PICTURE - 8, _PICTURE - 8), Image.Resampling.LANCZOS)
        left, top = number % _COLUMNS * _PICTURE, number // _COLUMNS * (_PICTURE + _TEXT)
        found.paste(picture, (left + 4, top + 4))
        pen.multiline_text(
            (left + 5, top + _PICTURE - 2), textwrap.fill(prompt, 32), fill="black", font=font, spacing=1
        )
    return found


def load(folder: Path) -> Any:
    """The pipeline of that folder, silent."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.painter.sheet", description=__doc__)
    parser.add_argument("--model", type=Path, default=OUTPUT)
    parser.add_argument("--output", type=Path, default=SHEET)
    options = parser.parse_args()
    sheet(load(options.model)).save(options.output, quality=88)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
