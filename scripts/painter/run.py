"""What both trainings need: where things lie, when to wait, when to stop, and checkpoints that survive a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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


class Workers:
    """Computes gradients of parts of a batch side by side, one thread a core.

    On a shared machine this is much quicker than the threads inside torch, which wait for each other in every operation:
    these meet once a step.
    """

    def __init__(self, device: Any) -> None:
        self.count = 1 if device.type != "cpu" else os.cpu_count() or 1
        if self.count > 1:
            torch.set_num_threads(1)
        self._threads = ThreadPoolExecutor(self.count)
        self._seen: set[tuple[Any, ...]] = set()

    def split(self, *tensors: Any) -> list[tuple[Any, ...]]:
        """Each tensor cut into as many parts as there are workers, or as it has rows."""
        return list(zip(*(tensor.chunk(self.count) for tensor in tensors), strict=True))

    def gradients(self, loss: Callable[..., Any], parts: Sequence[tuple[Any, ...]], weights: Sequence[Any]) -> float:
        """Sets the gradients of the mean loss of the parts and returns it."""
        total = sum(len(part[0]) for part in parts)

        def one(part: tuple[Any, ...]) -> tuple[float, Sequence[Any]]:
            # Not backward(): several threads must not add to the same gradient.
            value = loss(*part) * (len(part[0]) / total)
            return value.item(), torch.autograd.grad(value, weights)

        # Torch makes the kernels for a shape when it is first seen. Two threads that made the same one at the same time had it
        # give NaN from then on.
        shapes = tuple(tensor.shape for part in parts for tensor in part)
        found = list((self._threads.map if shapes in self._seen else map)(one, parts))
        self._seen.add(shapes)
        gradients = list(found[0][1])
        for _, others in found[1:]:
            torch._foreach_add_(gradients, others)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return sum(value for value, _ in found)

    def each(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
        list(self._threads.map(work, items))


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
