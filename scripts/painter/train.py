"""Trains the painter and writes it where the service finds it; run it again to go on after an interruption.

    python -m scripts.painter.train

Uses a CUDA device where there is one (minutes), else the CPU (hours). Everything but the result lies under
``data/painter``; remove that folder to begin anew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.painter import autoencoder, denoiser, models
from scripts.painter.export import export
from scripts.painter.run import Run

OUTPUT = Path(__file__).resolve().parents[2] / "deployments" / "local" / "painter"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.painter.train", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("data/painter"), help="checkpoints and cached latents")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the finished pipeline goes")
    parser.add_argument("--autoencoder-steps", type=int, default=20000)
    parser.add_argument("--autoencoder-minutes", type=float, default=90, help="stop there before all steps are done")
    parser.add_argument("--steps", type=int, default=12000, help="of the denoiser")
    parser.add_argument("--minutes", type=float, default=600, help="stop there before all steps are done")
    parser.add_argument("--sharpening-steps", type=int, default=1500, help="of the decoder alone, at the end")
    parser.add_argument("--sharpening-minutes", type=float, default=60, help="stop there before all steps are done")
    parser.add_argument("--pause-file", type=Path, help="training waits while this file exists")
    options = parser.parse_args()
    run = Run(folder=options.folder, pause_file=options.pause_file)
    run.stop_on_signals()
    compressor = autoencoder.train(run, steps=options.autoencoder_steps, minutes=options.autoencoder_minutes)
    if run.stopping:
        print("stopped; the same command goes on", flush=True)
        return 1
    painter = denoiser.train(run, compressor, steps=options.steps, minutes=options.minutes)
    if not run.stopping:
        autoencoder.sharpen(run, compressor, steps=options.sharpening_steps, minutes=options.sharpening_minutes)
    if run.stopping:
        print("stopped; the same command goes on", flush=True)
        return 1
    export(painter, compressor, models.tokenizer(run.folder / denoiser.TOKENIZER), options.output)
    print(f"the painter is in {options.output}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
