"""Trains the denoiser and the text encoder together on cached latents: small pictures first, then larger ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from scripts.painter import models
from scripts.painter.latents import Album, Drawn, drawn, tokens
from scripts.painter.muon import Muon
from scripts.painter.run import Average, Run, Workers, schedule

CHECKPOINT = "denoiser.pt"
#: The folder of the vocabulary that the latents' captions are in.
TOKENIZER = "tokenizer"
#: Share of captions replaced by nothing, for classifier-free guidance.
_WITHOUT_CAPTION = 0.1
#: Above this signal-to-noise ratio the loss weighs less (after "Efficient diffusion training via Min-SNR", 2303.09556).
_GAMMA = 5.0
_MUON_RATE, _ADAM_RATE = 2e-3, 1e-3
_SAVE_EVERY_S = 120.0

_WEIGHTS = {"single": 0.62, "landscape": 0.24, "pair": 0.06, "several": 0.04, "textured": 0.04}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training: albums with their shares of the batches."""

    #: As a share of the whole training.
    until: float
    albums: tuple[tuple[Album, float], ...]
    #: Latent pixels in a batch; larger pictures come fewer at a time.
    batch: int


_MEDIUM = Album(width=256, height=256, count=8000, weights=_WEIGHTS, seed=2)
STAGES = (
    Stage(until=0.6, albums=((_MEDIUM, 1.0),), batch=128 * 8 * 8),
    Stage(
        until=1.0,
        albums=(
            (_MEDIUM, 0.35),
            (Album(width=512, height=512, count=2500, weights=_WEIGHTS, seed=6), 0.5),
            (Album(width=384, height=256, count=600, weights=_WEIGHTS, seed=4), 0.075),
            (Album(width=256, height=384, count=600, weights=_WEIGHTS, seed=5), 0.075),
        ),
        batch=128 * 8 * 8,
    ),
)


class Painter(nn.Module):  # type: ignore[misc]
    """Text encoder and denoiser as one module, so that they have one average and one checkpoint."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.text = models.text_encoder(tokenizer)
        self.unet = models.denoiser()

    def forward(self, noisy: Any, times: Any, captions: Any) -> Any:
        return self.unet(noisy, times, self.text(captions)[0], return_dict=False)[0]


def train(run: Run, autoencoder: Any, *, steps: int, minutes: float, stages: Sequence[Stage] = STAGES) -> Painter:
    """The painter with averaged weights: after so many steps, or so many minutes of training."""
    torch.manual_seed(0)
    tokenizer = _vocabulary(run)
    painter = Painter(tokenizer)
    painter.to(run.device)
    average = Average(painter)
    workers = Workers(run.device)
    optimisers = _optimisers(painter, workers)
    step, spent, examples = 0, 0.0, 0
    saved = run.load(CHECKPOINT)
    if saved is not None:
        painter.load_state_dict(saved["model"])
        for weight, kept in zip(average.weights, saved["average"], strict=True):
            weight.copy_(kept)
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        step, spent, examples = saved["step"], saved["spent"], saved["examples"]
        torch.manual_seed(step)

    def save() -> None:
        states = [optimiser.state_dict() for optimiser in optimisers]
        state = {"model": painter.state_dict(), "average": average.weights, "optimisers": states}
        run.save(CHECKPOINT, state | {"step": step, "spent": spent, "examples": examples})

    if run.device.type == "cpu":
        # The fused kernel's way back takes longer than plain products at so few tokens.
        torch.backends.cuda.enable_flash_sdp(False)
    batches = _Batches(run, autoencoder, tokenizer)
    losses = _Losses(run)
    weights = list(painter.parameters())
    saved_at, recent = spent, 0.0
    while not run.stopping:
        progress = max(step / steps, spent / (60 * minutes))
        if progress >= 1:
            break
        run.wait_while_paused()
        batch = batches.next(next(stage for stage in stages if progress < stage.until))
        if batch is None:
            break
        began = time.monotonic()
        for optimiser, rate in zip(optimisers, (_MUON_RATE, _ADAM_RATE), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * schedule(progress)
        loss = workers.gradients(partial(losses.of, painter), workers.split(*losses.prepared(*batch)), weights)
        nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        average.update(painter, step)
        examples += len(batch[0])
        spent += time.monotonic() - began
        recent = 0.98 * recent + 0.02 * loss if recent else loss
        if step % 50 == 0:
            print(
                f"denoiser step {step}: loss {recent:.4f}, {examples} examples, {spent:.0f} s, {progress:.0%}",
                flush=True,
            )
        if spent - saved_at > _SAVE_EVERY_S:
            saved_at = spent
            save()
    save()
    with torch.no_grad():
        torch._foreach_copy_(list(painter.parameters()), average.weights)
    return painter


def _vocabulary(run: Run) -> Any:
    """Raises FileNotFoundError where there is something that was learnt with a vocabulary which is gone: no other one fits."""
    kept = run.folder / TOKENIZER
    learnt = [*run.folder.glob(CHECKPOINT), *run.folder.glob("latents-*.pt")]
    if learnt and not kept.exists():
        raise FileNotFoundError(f"{kept} is missing, the vocabulary of {learnt[0]}: bring it back, or remove both")
    return models.tokenizer(kept)


def _optimisers(painter: Painter, workers: Workers) -> list[Any]:
    """Muon for what lies inside, AdamW for the rest: embeddings, first and last layers, norms, biases."""
    outside = ("embedding", "conv_in", "conv_out")
    inner: list[Any] = []
    rest: list[Any] = []
    for name, weight in painter.named_parameters():
        (inner if weight.ndim > 1 and not any(part in name for part in outside) else rest).append(weight)
    return [
        Muon(inner, lr=_MUON_RATE, each=workers.each),
        torch.optim.AdamW(rest, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0, fused=True),
    ]


class _Losses:
    """The loss of a batch: how wrong the predicted velocity is, at random times."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scheduler = models.scheduler()
        self._kept = self._scheduler.alphas_cumprod.to(run.device)

    def prepared(self, latents: Any, captions: Any) -> tuple[Any, Any, Any, Any]:
        """Noisy latents, times, captions, and the velocities to be predicted."""
        count, device = len(latents), self._run.device
        noise = torch.randn_like(latents)
        # One time from each of as many equal parts: less chance, the same distribution.
        shares = (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count
        times = (shares * len(self._kept)).long().clamp(max=len(self._kept) - 1)
        noisy = self._scheduler.add_noise(latents, noise, times)
        return noisy, times, captions, self._scheduler.get_velocity(latents, noise, times)

    def of(self, painter: Painter, noisy: Any, times: Any, captions: Any, velocity: Any) -> Any:
        with self._run.autocast():
            predicted = painter(noisy, times, captions)
        ratio = self._kept[times] / (1 - self._kept[times])
        weight = _GAMMA / (ratio + _GAMMA)
        wrong = (predicted.float() - velocity).square().mean(dim=(1, 2, 3))
        return (weight * wrong).mean()


class _Batches:
    """Random batches of the albums of a stage; albums are drawn when they are first needed."""

    def __init__(self, run: Run, autoencoder: Any, tokenizer: Any) -> None:
        self._run = run
        self._autoencoder = autoencoder
        self._tokenizer = tokenizer
        self._nothing = tokens(tokenizer, [""])[0].to(run.device)
        self._albums: dict[str, Drawn] = {}
        self._orders: dict[str, list[int]] = {}

    def next(self, stage: Stage) -> tuple[Any, Any] | None:
        """Latents and caption tokens; None if the run was stopped while drawing."""
        albums = [album for album, _ in stage.albums]
        shares = torch.tensor([share for _, share in stage.albums])
        album = albums[int(torch.multinomial(shares, 1))]
        if album.name not in self._albums:
            made = drawn(self._run, album, self._autoencoder, self._tokenizer)
            if made is None:
                return None
            self._albums[album.name] = made
        cached = self._albums[album.name]
        pixels = cached.latents.shape[2] * cached.latents.shape[3]
        chosen = self._take(album.name, len(cached.latents), max(1, stage.batch // pixels))
        latents = cached.latents[chosen].to(self._run.device).float()
        captions = cached.tokens[chosen].to(self._run.device)
        emptied = torch.rand(len(captions), 1, device=self._run.device) < _WITHOUT_CAPTION
        return latents, torch.where(emptied, self._nothing, captions)

    def _take(self, name: str, size: int, count: int) -> Sequence[int]:
        """Each once before any comes again."""
        order = self._orders.setdefault(name, [])
        if len(order) < count:
            order[:] = torch.randperm(size).tolist()
        taken, order[:] = order[:count], order[count:]
        return taken
