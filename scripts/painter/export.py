"""Writes the pipeline in the diffusers format, weights as float16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from scripts.painter import models
from scripts.painter.denoiser import Painter


def export(painter: Painter, autoencoder: Any, tokenizer: Any, folder: Path) -> None:
    """``DiffusionPipeline.from_pretrained(folder)`` loads what this writes; the modules are float16 afterwards."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=painter.text,
        tokenizer=tokenizer,
        unet=painter.unet,
        scheduler=models.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)  # written for the owner alone
    # transformers would compute in the type of the stored weights, diffusers computes in float32 unless told otherwise.
    config = folder / "text_encoder" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
