"""What the shipped image model gets right, and how long it takes.

    python -m benchmarks.painter

200 prompts for one shape of one colour, in combinations that training never saw, painted once each at a fixed seed; the
checker of ``scripts.painter`` reads colour and shape from the pixels. Timings are of the bare pipeline, one picture a call.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from scripts.painter.checker import Reading, read
from scripts.painter.scenes import Captioned, held_out_prompts
from scripts.painter.sheet import load, paint
from scripts.painter.train import OUTPUT

_BATCH = 10
_TIMED = 5
#: Of issue and design: seconds for one picture of that many pixels a side, 20 steps, 2 cores.
_TIME_BUDGETS = {256: 3.0, 512: 10.0}
_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Judged:
    asked: Captioned
    seen: Reading

    @property
    def colour(self) -> bool:
        return self.seen.colour == self.asked.scene.things[0].colour

    @property
    def shape(self) -> bool:
        return self.seen.shape == self.asked.scene.things[0].shape


def judge(pipeline: Any, prompts: Sequence[Captioned], *, side: int, guidance: float, steps: int) -> list[Judged]:
    """Each prompt painted once, its number in the list as its seed."""
    found = []
    for start in range(0, len(prompts), _BATCH):
        asked = prompts[start : start + _BATCH]
        pictures = pipeline(
            [one.caption for one in asked],
            width=side,
            height=side,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(start + number) for number in range(len(asked))],
        ).images
        found += [Judged(asked=one, seen=read(picture)) for one, picture in zip(asked, pictures, strict=True)]
    return found


def times(pipeline: Any, side: int, guidance: float) -> list[float]:
    """Seconds of one call after another, the first not counted."""
    found = []
    for number in range(_TIMED + 1):
        began = time.perf_counter()
        paint(pipeline, "a red circle on a white background", number, side=side, guidance=guidance, steps=_STEPS)
        found.append(time.perf_counter() - began)
    return found[1:]


def _share(flags: Sequence[bool]) -> str:
    return f"{sum(flags) / len(flags):.1%}" if flags else "–"


def _by(judged: Sequence[Judged], word: str) -> str:
    """One line a shape or colour: how many of its prompts were right."""
    asked, right = Counter[str](), Counter[str]()
    for one in judged:
        name = getattr(one.asked.scene.things[0], word)
        asked[name] += 1
        right[name] += one.colour and one.shape
    return ", ".join(f"{name} {right[name]}/{asked[name]}" for name in sorted(asked))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.painter", description=__doc__)
    parser.add_argument("--model", type=Path, default=OUTPUT)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--large", type=int, default=50, help="prompts that are painted at 512 pixels as well")
    parser.add_argument("--guidance", type=float, nargs="+", default=[4.0, 7.5])
    parser.add_argument("--name", default="painter", help="name of the result files")
    options = parser.parse_args()
    pipeline = load(options.model)
    prompts = held_out_prompts(options.prompts)
    rows, runs = [], []
    for side, guidance in [(256, guidance) for guidance in options.guidance] + [(512, options.guidance[0])]:
        some = prompts if side == 256 else prompts[: options.large]
        judged = judge(pipeline, some, side=side, guidance=guidance, steps=_STEPS)
        right = [one.colour and one.shape for one in judged]
        seconds = times(pipeline, side, guidance)
        rows.append(
            [
                f"{side} px, guidance {guidance:g}",
                str(len(judged)),
                _share([one.colour for one in judged]),
                _share([one.shape for one in judged]),
                _share(right),
                f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})",
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
        runs.append((side, guidance, judged, seconds))
    _, _, first, _ = runs[0]
    budgets = [
        report.Budget(
            what=f"colour and shape right, {len(first)} held-out prompts, 256 px",
            limit=0.9,
            measured=sum(one.colour and one.shape for one in first) / len(first),
            at_most=False,
        ),
        *(
            report.Budget(
                what=f"{side} px, {_STEPS} steps",
                limit=_TIME_BUDGETS[side],
                measured=statistics.median(seconds),
                unit=" s",
            )
            for side, _, _, seconds in (runs[0], runs[-1])
        ),
    ]
    wrong = [
        f"- {one.asked.caption}: {one.seen.colour or 'no colour'} {one.seen.shape or 'no shape'}"
        for one in first
        if not (one.colour and one.shape)
    ]
    head = ["setting", "prompts", "colour", "shape", "both", "seconds a picture"]
    text = (
        f"# The shipped image model\n\n{report.machine()}, {torch.get_num_threads()} threads\n\n"
        f"{report.markdown([head, *rows])}\n"
        "Prompts for one shape of one colour in combinations of colour, shape and ground that training never saw, one picture "
        f"each, {_STEPS} steps, judged by pixels (`scripts/painter/checker.py`). Seconds: median of {_TIMED} (smallest–largest), "
        "the bare pipeline, one picture a call.\n\n"
        f"By shape ({rows[0][0]}): {_by(first, 'shape')}.\n\nBy colour: {_by(first, 'colour')}.\n\n"
        f"## Budgets\n\n{report.budget_table(budgets)}\n"
        f"## What went wrong\n\n{rows[0][0]}: what was asked for, and what the checker saw.\n\n"
        + "\n".join(wrong)
        + "\n"
    )
    print(text)
    report.write(
        options.name,
        text,
        [
            {
                "side": side,
                "guidance": guidance,
                "seconds": seconds,
                "pictures": [
                    {
                        "prompt": one.asked.caption,
                        "colour": one.seen.colour,
                        "shape": one.seen.shape,
                        "right": one.colour and one.shape,
                    }
                    for one in judged
                ],
            }
            for side, guidance, judged, seconds in runs
        ],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
