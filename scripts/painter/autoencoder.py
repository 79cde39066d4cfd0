"""Trains the autoencoder on cuttings of drawn scenes."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from scripts.painter import models
from scripts.painter.drawing import Scene, draw
from scripts.painter.run import Run, Workers, schedule
from scripts.painter.scenes import training_scenes

CHECKPOINT = "autoencoder.pt"
#: The same with more training of the decoder.
SHARPENED = "autoencoder-sharpened.pt"
_SIDES = (256, 256, 384)
_CUT = 160
_CUTS_PER_PICTURE = 2
_BATCH = 6
#: Standard deviation of the noise that the decoder learns to bear: what a denoiser leaves over.
_NOISE = 0.12
_RATE = 2e-3
_WEIGHTS = {"single": 0.7, "textured": 0.05, "pair": 0.05, "several": 0.05, "landscape": 0.15}
#: What is hardest to keep is seen most: of the scenes of one thing, those without fine points are passed over this often.
_FINE, _PASSED_OVER = "star", 0.65
#: An edge is where neighbours differ by more than this in all colours together, -1..1 each; how many times more a pixel counts
#: where all pixels within a square of so many are edges.
_EDGE, _EDGES_COUNT, _NEAR = 0.1, 30, 17


def train(run: Run, *, steps: int, minutes: float) -> Any:
    """The trained autoencoder: after so many steps, or so many minutes of training."""
    torch.manual_seed(0)
    model = models.autoencoder()
    _begin_with_colours(model)
    model.to(run.device, memory_format=torch.channels_last)
    _learn(run, CHECKPOINT, model, list(model.parameters()), steps=steps, minutes=minutes)
    if not run.stopping and model.config.scaling_factor == 1:
        model.register_to_config(scaling_factor=_scaling(model, _Batches(seed=999), run))
        kept: dict[str, Any] = run.load(CHECKPOINT) or {}
        run.save(CHECKPOINT, kept | {"scaling_factor": model.config.scaling_factor})
    return model


def sharpen(run: Run, model: Any, *, steps: int, minutes: float) -> Any:
    """The same with a decoder that has learnt on; the encoder stays, and with it whatever was compressed before."""
    _learn(run, SHARPENED, model, list(model.decoder.parameters()), steps=steps, minutes=minutes)
    return model


def _learn(run: Run, checkpoint: str, model: Any, weights: list[Any], *, steps: int, minutes: float) -> None:
    workers = Workers(run.device)
    optimiser = torch.optim.AdamW(weights, lr=_RATE, betas=(0.9, 0.98), weight_decay=0)
    step, spent = 0, 0.0
    saved = run.load(checkpoint)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        model.register_to_config(scaling_factor=saved["scaling_factor"])
        step, spent = saved["step"], saved["spent"]

    def save() -> None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        state["scaling_factor"] = model.config.scaling_factor
        run.save(checkpoint, state | {"step": step, "spent": spent})

    batches = _Batches(seed=1000 + step)
    while (progress := max(step / steps, spent / (60 * minutes))) < 1 and not run.stopping:
        run.wait_while_paused()
        began = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = _RATE * schedule(progress, decay=0.5)
        pictures = batches.next().to(run.device, memory_format=torch.channels_last)
        loss = workers.gradients(partial(_loss, run, model), workers.split(pictures), weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        step += 1
        spent += time.monotonic() - began
        if step % 25 == 0:
            print(f"{checkpoint} step {step}: loss {loss:.4f}, {spent:.0f} s", flush=True)
        if step % 200 == 0:
            save()
    save()


#: Channels that carry colours through the untrained layers, and what latents of colours are multiplied by.
_COLOURS, _GAIN = 3, 2.5


@torch.no_grad()  # type: ignore[untyped-decorator]
def _begin_with_colours(model: Any) -> None:
    """Sets the first weights so that the mean colour of each square survives the way through, before anything is learnt.

    From weights by chance an autoencoder of this width takes very long to see colours. Latents begin as the mean of each
    square of pixels and its differences between left and right, top and bottom, and across; the decoder gives back the mean.
    """
    encoder, decoder = model.encoder.layers, model.decoder.layers
    for layer in [*encoder, *decoder]:
        if hasattr(layer, "conv"):  # a residual block begins as hardly anything beside its way past
            layer.conv[-1].weight.mul_(0.1)
            layer.conv[-1].weight[: 4 * _COLOURS].zero_()
            layer.conv[-1].bias.zero_()
    convolutions = [layer for layer in encoder if isinstance(layer, torch.nn.Conv2d)]
    halving = convolutions[1:-1]
    _pass(convolutions[0], [((1, 1), 1.0)])
    for layer in halving[:-1]:
        _pass(layer, [((row, column), 0.25) for row in (1, 2) for column in (1, 2)])
    quarters = [(row, column) for row in (1, 2) for column in (1, 2)]
    for colour in range(_COLOURS):
        for number, (row, column) in enumerate(quarters):
            to = number * _COLOURS + colour
            halving[-1].weight[to].zero_()
            halving[-1].weight[to, colour, row, column] = 1
    signs = ((1, 1, 1, 1), (-1, 1, -1, 1), (-1, -1, 1, 1), (1, -1, -1, 1))
    last = convolutions[-1]
    last.bias.zero_()
    for kind, pattern in enumerate(signs):
        for colour in range(_COLOURS):
            to = kind * _COLOURS + colour
            last.weight[to].zero_()
            for number, sign in enumerate(pattern):
                last.weight[to, number * _COLOURS + colour, 1, 1] = sign * _GAIN / 4 * (1 if kind == 0 else 2)
            if kind == 0:
                last.bias[to] = -_GAIN / 2
    first, *others = (layer for layer in decoder if isinstance(layer, torch.nn.Conv2d))
    _pass(first, [((1, 1), 1 / _GAIN)])
    first.bias[:_COLOURS] = 0.5
    for layer in others:
        _pass(layer, [((1, 1), 1.0)])
    others[-1].weight[:, _COLOURS:].normal_(0, 0.01)


def _pass(layer: Any, taps: list[tuple[tuple[int, int], float]]) -> None:
    """Makes the first channels of the result those of the input, at these places of the kernel."""
    layer.weight[:_COLOURS].zero_()
    if layer.bias is not None:
        layer.bias[:_COLOURS].zero_()
    for colour in range(_COLOURS):
        for (row, column), share in taps:
            layer.weight[colour, colour, row, column] = share


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
    """Of pixels, those near edges above all, and of steps between neighbours, which keeps edges sharp."""
    gap = painted - pictures
    steps = gap.diff(dim=2).abs().mean() + gap.diff(dim=3).abs().mean()
    return (gap.abs() * _near_edges(pictures)).mean() + 0.3 * steps


def _near_edges(pictures: Any) -> Any:
    """How much a pixel counts, 1 on the average of each picture. Without it the points of a small star count for nothing beside
    the ground, and the star is taken for a circle."""
    steps = (
        pictures.diff(dim=2, prepend=pictures[:, :, :1]).abs() + pictures.diff(dim=3, prepend=pictures[..., :1]).abs()
    )
    edges = (steps.sum(dim=1, keepdim=True) > _EDGE).float()
    counts = 1 + _EDGES_COUNT * functional.avg_pool2d(edges, _NEAR, stride=1, padding=_NEAR // 2)
    return counts / counts.mean(dim=(1, 2, 3), keepdim=True)


class _Batches:
    """Cuttings of drawn pictures, each used once."""

    def __init__(self, seed: int) -> None:
        self._scenes = training_scenes(seed, _WEIGHTS)
        self._random = np.random.default_rng(seed)

    def next(self) -> Any:
        cuts: list[np.ndarray] = []
        while len(cuts) < _BATCH:
            scene = next(self._scenes).scene
            if _is_plain(scene) and self._random.random() < _PASSED_OVER:
                continue
            side = int(self._random.choice(_SIDES))
            picture = np.asarray(draw(scene, side, side))
            for _ in range(_CUTS_PER_PICTURE):
                top, left = self._random.integers(0, side - _CUT + 1, size=2)
                cuts.append(picture[top : top + _CUT, left : left + _CUT])
        return as_tensor(np.stack(cuts))


def _is_plain(scene: Scene) -> bool:
    return len(scene.things) == 1 and scene.things[0].shape != _FINE


def as_tensor(pictures: np.ndarray) -> Any:
    """Pictures of bytes (count, height, width, 3) as the autoencoder wants them: -1..1, channels first."""
    return torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _scaling(model: Any, batches: _Batches, run: Run) -> float:
    """What brings latents to a standard deviation of 1."""
    latents = [model.encode(batches.next().to(run.device)).latents for _ in range(40)]
    deviation: float = torch.cat(latents).std().item()
    return round(1 / deviation, 4)
