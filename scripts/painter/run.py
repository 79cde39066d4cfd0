"""What both trainings need: where things lie, when to wait, when to stop, and checkpoints that survive a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(kw_only=True)
class Run:
    """One run of the training; interrupted ones go on where their last checkpoint is."""

    folder: Path
    #: While this file exists, training waits.
    pause_file: Path | None = None
    stopping: bool = field(default=False, init=False)

    @property
    def device(self) -> Any:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT end the training after the running step, with a checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "stopping", True))

    def wait_while_paused(self) -> float:
        """Seconds that it waited."""
        began = time.monotonic()
        while self.pause_file is not None and self.pause_file.exists() and not self.stopping:
            time.sleep(1)
        return time.monotonic() - began

    def autocast(self) -> Any:
        """bfloat16 where it is faster."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def save(self, name: str, state: Any) -> None:
        """Replaces the file of that name at once, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{name}.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / name)

    def load(self, name: str) -> Any | None:
        """What was saved under that name; None if nothing was."""
        path = self.folder / name
        return torch.load(path, map_location=self.device, weights_only=True) if path.exists() else None


class Average:
    """Exponential moving average of weights; short at first, so that it does not remember the start."""

    def __init__(self, module: Any, longest: float = 0.998) -> None:
        self.weights = [weight.detach().clone() for weight in module.parameters()]
        self._longest = longest

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self, module: Any, step: int) -> None:
        decay = min(self._longest, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, [weight.detach() for weight in module.parameters()], 1 - decay)

    @contextlib.contextmanager
    def inside(self, module: Any) -> Iterator[None]:
        """The module with the average for its weights."""
        own = [weight.detach().clone() for weight in module.parameters()]
        with torch.no_grad():
            torch._foreach_copy_(list(module.parameters()), self.weights)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(module.parameters()), own)


def schedule(progress: float, warmup: float = 0.01, decay: float = 0.3) -> float:
    """Factor of the learning rate: up, level, and down to nothing in the last share ``decay`` of the training."""
    return min(1.0, (progress + 1e-3) / warmup, max(0.0, (1 - progress) / decay))
