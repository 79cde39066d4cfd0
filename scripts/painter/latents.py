"""Draws the training scenes, compresses them and keeps latents and caption tokens, once for the whole training."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scripts.painter.autoencoder import as_tensor
from scripts.painter.drawing import draw
from scripts.painter.run import Run
from scripts.painter.scenes import training_scenes

_BATCH_PIXELS = 16 * 256 * 256
#: Share of captions with a word that means nothing, so that such words do no harm.
_NOISE_WORDS = 0.06


@dataclass(frozen=True, kw_only=True)
class Album:
    """Scenes of one size to be drawn."""

    width: int
    height: int
    count: int
    #: Shares of the kinds of scene, see ``scenes.MAKERS``.
    weights: dict[str, float]
    seed: int

    @property
    def name(self) -> str:
        return f"latents-{self.width}x{self.height}-{self.seed}.pt"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Latents (count, channels, height, width) in float16, scaled to a deviation of 1; tokens (count, length)."""

    latents: Any
    tokens: Any


def drawn(run: Run, album: Album, autoencoder: Any, tokenizer: Any) -> Drawn | None:
    """The album, drawn now or before; None if the run was stopped meanwhile."""
    saved = run.load(album.name)
    if saved is not None:
        return Drawn(latents=saved["latents"], tokens=saved["tokens"])
    captions: list[str] = []
    parts: list[Future[Any]] = []
    # While one chunk is drawn the one before is compressed.
    compressing = ThreadPoolExecutor(1)
    rng = random.Random(album.seed)
    scenes = itertools.islice(training_scenes(album.seed, album.weights), album.count)
    batch = max(1, _BATCH_PIXELS // (album.width * album.height))
    while chunk := list(itertools.islice(scenes, batch)):
        run.wait_while_paused()
        if run.stopping:
            return None
        pictures = np.stack([np.asarray(draw(one.scene, album.width, album.height)) for one in chunk])
        parts.append(compressing.submit(encoded, run, autoencoder, pictures))
        captions += [_with_noise(one.caption, rng) for one in chunk]
    found = {"latents": torch.cat([part.result() for part in parts]), "tokens": tokens(tokenizer, captions)}
    run.save(album.name, found)
    print(f"{album.name}: {len(captions)} scenes", flush=True)
    return Drawn(latents=found["latents"], tokens=found["tokens"])


@torch.no_grad()  # type: ignore[untyped-decorator]
def encoded(run: Run, autoencoder: Any, pictures: np.ndarray) -> Any:
    tensor = as_tensor(pictures).to(run.device, memory_format=torch.channels_last)
    with run.autocast():
        latents = autoencoder.encode(tensor).latents
    return (latents.float() * autoencoder.config.scaling_factor).half().cpu().contiguous()


def tokens(tokenizer: Any, captions: list[str]) -> Any:
    """Token ids, padded to the length that the pipeline uses."""
    return tokenizer(
        captions, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids


def _with_noise(caption: str, rng: random.Random) -> str:
    if rng.random() >= _NOISE_WORDS:
        return caption
    words = caption.split()
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9)))
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)
