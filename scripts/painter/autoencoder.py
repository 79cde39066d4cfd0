"""Trains the autoencoder on cuttings of drawn scenes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from scripts.painter import models
from scripts.painter.drawing import draw
from scripts.painter.muon import Muon
from scripts.painter.run import Run, Workers, schedule
from scripts.painter.scenes import training_scenes

CHECKPOINT = "autoencoder.pt"
_SIDES = (256, 256, 384)
_CUT = 128
_CUTS_PER_PICTURE = 2
_BATCH = 16
#: Standard deviation of the noise that the decoder learns to bear: what a denoiser leaves over.
_NOISE = 0.12
_WEIGHTS = {"single": 0.4, "textured": 0.08, "pair": 0.08, "several": 0.08, "landscape": 0.36}


def train(run: Run, *, steps: int, minutes: float) -> Any:
    """The trained autoencoder: after so many steps, or so many minutes of training."""
    torch.manual_seed(0)
    model = models.autoencoder().to(run.device, memory_format=torch.channels_last)
    weights = list(model.parameters())
    matrices = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim == 1]
    workers = Workers(run.device)
    optimisers = [Muon(matrices, lr=4e-3, each=workers.each), torch.optim.AdamW(others, lr=2e-3, weight_decay=0)]
    rates = [4e-3, 2e-3]
    step, spent = 0, 0.0
    saved = run.load(CHECKPOINT)
    if saved is not None:
        model.load_state_dict(saved["model"])
        model.register_to_config(scaling_factor=saved["scaling_factor"])
        step, spent = saved["step"], saved["spent"]
        if saved["done"]:
            return model
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
    batches = _Batches(seed=1000 + step)
    while (progress := max(step / steps, spent / (60 * minutes))) < 1 and not run.stopping:
        run.wait_while_paused()
        began = time.monotonic()
        for optimiser, rate in zip(optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * schedule(progress)
        pictures = batches.next().to(run.device, memory_format=torch.channels_last)
        loss = workers.gradients(partial(_loss, run, model), workers.split(pictures), weights)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        spent += time.monotonic() - began
        if step % 25 == 0:
            print(f"autoencoder step {step}: loss {loss:.4f}, {spent:.0f} s", flush=True)
        if step % 200 == 0:
            _save(run, model, optimisers, step, spent, done=False)
    if not run.stopping:
        model.register_to_config(scaling_factor=_scaling(model, batches, run))
    _save(run, model, optimisers, step, spent, done=not run.stopping)
    return model


def _loss(run: Run, model: Any, pictures: Any) -> Any:
    """How much the pictures change, and a little for latents that are not centred or not of a deviation of 1."""
    with run.autocast():
        latents = model.encode(pictures).latents.float()
        noisy = latents + _NOISE * torch.rand(len(latents), 1, 1, 1, device=run.device) * torch.randn_like(latents)
        painted = model.decode(noisy).sample.float()
    spread = latents.std(dim=(0, 2, 3)) - 1
    centre = latents.mean(dim=(0, 2, 3))
    return _difference(painted, pictures) + 0.02 * (spread.square().mean() + centre.square().mean())


def _difference(painted: Any, pictures: Any) -> Any:
    """Of pixels, and of steps between neighbours, which keeps edges sharp."""
    gap = painted - pictures
    edges = gap.diff(dim=2).abs().mean() + gap.diff(dim=3).abs().mean()
    coarse = functional.avg_pool2d(gap, 8).abs().mean()
    return gap.abs().mean() + 0.5 * edges + 0.5 * coarse


class _Batches:
    """Cuttings of drawn pictures, each used once."""

    def __init__(self, seed: int) -> None:
        self._scenes = training_scenes(seed, _WEIGHTS)
        self._random = np.random.default_rng(seed)

    def next(self) -> Any:
        cuts: list[np.ndarray] = []
        while len(cuts) < _BATCH:
            side = int(self._random.choice(_SIDES))
            picture = np.asarray(draw(next(self._scenes).scene, side, side))
            for _ in range(_CUTS_PER_PICTURE):
                top, left = self._random.integers(0, side - _CUT + 1, size=2)
                cuts.append(picture[top : top + _CUT, left : left + _CUT])
        return as_tensor(np.stack(cuts))


def as_tensor(pictures: np.ndarray) -> Any:
    """Pictures of bytes (count, height, width, 3) as the autoencoder wants them: -1..1, channels first."""
    return torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _scaling(model: Any, batches: _Batches, run: Run) -> float:
    """What brings latents to a standard deviation of 1."""
    latents = [model.encode(batches.next().to(run.device)).latents for _ in range(8)]
    deviation: float = torch.cat(latents).std().item()
    return round(1 / deviation, 4)


def _save(run: Run, model: Any, optimisers: list[Any], step: int, spent: float, *, done: bool) -> None:
    run.save(
        CHECKPOINT,
        {
            "model": model.state_dict(),
            "scaling_factor": model.config.scaling_factor,
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "step": step,
            "spent": spent,
            "done": done,
        },
    )
