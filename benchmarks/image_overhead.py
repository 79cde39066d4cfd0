"""What an image prompt costs outside of the pipeline: ``python -m benchmarks.image_overhead``.

The same pipeline paints the same pictures in turns: called bare in this process, and through the service over HTTP as synchronous
prompts, which say how long their pipeline call took. What is left of the time is ours.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks import processes, report
from benchmarks.systems import ROOT, free_port, models_dir
from tests.served_config import replace_models

MODEL_ID = "bench/painter"
#: The same for both: threads that wait sleep, as in serve_config.yaml.
THREADS = {"OMP_NUM_THREADS": str(os.cpu_count() or 2), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
PROMPT = "A serene mountain landscape at sunset, digital art"
#: Of the time of the pipeline call (DESIGN §7).
BUDGET = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_overhead", description=__doc__)
    parser.add_argument("--model", type=Path, default=models_dir() / "painter", help="a pipeline in diffusers' format")
    parser.add_argument("--size", type=int, default=512, help="pixels of both sides")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=5, help="pictures each way")
    parser.add_argument("--name", default="image_overhead", help="name of the result files")
    options = parser.parse_args()
    if not (options.model / "model_index.json").exists():
        parser.error(f"--model: {options.model} holds no pipeline")
    processes.adopt_orphans()
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory(prefix="image-overhead-") as folder, _service(options.model, Path(folder)) as http:
        paint_bare = _bare(options.model, options.size, options.steps)
        rows = []
        paint_bare(0)
        _paint(http, options.size, options.steps, 0)
        for seed in range(1, options.pictures + 1):
            bare = paint_bare(seed)
            row = {"bare_s": bare, **_paint(http, options.size, options.steps, seed)}
            rows.append(row)
            print(", ".join(f"{name} {value:.3f}" for name, value in row.items()), file=sys.stderr)
    text = _text(rows, options)
    print(text)
    report.write(options.name, text, rows)
    return 0


def _bare(model: Path, size: int, steps: int) -> Any:
    """A function that paints with a seed and returns how long it took, seconds. Its files are not written."""
    import torch
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(str(model))
    pipe.set_progress_bar_config(disable=True)

    def paint(seed: int) -> float:
        generator = torch.Generator("cpu").manual_seed(seed)
        began = time.perf_counter()
        pipe(PROMPT, num_inference_steps=steps, width=size, height=size, guidance_scale=7.5, generator=generator)
        return time.perf_counter() - began

    return paint


def _paint(http: httpx.Client, size: int, steps: int, seed: int) -> dict[str, float]:
    """Seconds from the request to the answer, of the pipeline call within, and of what is before and behind it."""
    parameters = {"width": size, "height": size, "steps": steps, "seed": seed, "guidanceScale": 7.5}
    asked = time.time()
    reply = http.post(
        "/prompt-svc/prompt",
        json={"prompt": PROMPT, "sync": True, "modelId": MODEL_ID, "parameters": {"textToImage": parameters}},
    )
    answered = time.time()
    reply.raise_for_status()
    prompt, message = reply.json()["prompt"], reply.json()["responseMessage"]
    call = float(message["meta"]["paintSeconds"])
    accepted, claimed, ended = (
        _seconds(text) for text in (prompt["createdAt"], prompt["lastRun"], message["createdAt"])
    )
    return {
        "service_s": answered - asked,
        "call_s": call,
        "outside_s": answered - asked - call,
        "accept_s": accepted - asked,
        "claim_s": claimed - accepted,
        "keep_s": ended - claimed - call,
        "answer_s": answered - ended,
    }


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


@contextmanager
def _service(model: Path, folder: Path) -> Iterator[httpx.Client]:
    """The service with this model alone, on a store of its own."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    application = config["applications"][0]
    replace_models(
        application,
        [{"id": MODEL_ID, "engine": "diffusers", "source": str(model), "images": {"max_pixels": 2048 * 2048}}],
        [
            {
                "name": "Diffusion-painter",
                "max_ongoing_requests": 16,
                "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": THREADS}},
            }
        ],
    )
    file = folder / "serve_config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    port, password = free_port(), secrets.token_urlsafe(12)
    environ = {
        **os.environ,
        "PORT": str(port),
        "PROMPT_SVC_DATA_DIR": str(folder / "data"),
        "PROMPT_SVC_ADMIN_PASSWORD": password,
    }
    command = [sys.executable, "-m", "deployments.local", str(file)]
    process = processes.start(command, environ=environ, cwd=ROOT, output=folder / "launcher.out")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as http:
            _wait_ready(http, process)
            login = {"appHost": "unnamed", "slug": "1backend", "password": password}
            token = http.post("/user-svc/login", json=login).json()["token"]["token"]
            http.headers["Authorization"] = f"Bearer {token}"
            yield http
    finally:
        processes.stop(process, grace_s=45)


def _wait_ready(http: httpx.Client, process: subprocess.Popen[bytes], timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with {process.returncode}")
        try:
            health = http.get("/health")
            if health.status_code == 200 and all(model["running"] for model in health.json()["models"].values()):
                return
        except httpx.HTTPError:
            pass  # Not there yet.
        time.sleep(0.2)
    raise TimeoutError("the service did not get ready")


def _text(rows: list[dict[str, float]], options: argparse.Namespace) -> str:
    def median(name: str) -> float:
        return statistics.median(row[name] for row in rows)

    outside = statistics.median(row["outside_s"] / row["call_s"] for row in rows)
    verdict = "met" if outside <= BUDGET else "missed"
    return (
        f"# Image prompts: time outside of the pipeline call\n\n{report.machine()}\n\n"
        f"{options.size} x {options.size} pixels, {options.steps} steps with guidance, {len(rows)} pictures each way in turns."
        "\n\n"
        "| | seconds, median |\n| --- | ---: |\n"
        f"| bare diffusers call in a process of its own | {median('bare_s'):.3f} |\n"
        f"| the same call in a replica, previews included | {median('call_s'):.3f} |\n"
        f"| synchronous prompt over HTTP, from the request to the answer | {median('service_s'):.3f} |\n"
        f"| of that outside of the call | {median('outside_s'):.3f} |\n"
        f"| – request until it is stored | {median('accept_s'):.3f} |\n"
        f"| – stored until a replica has claimed it | {median('claim_s'):.3f} |\n"
        f"| – picture encoded, its file on the disk, the prompt ended | {median('keep_s'):.3f} |\n"
        f"| – ended until the answer is there | {median('answer_s'):.3f} |\n\n"
        f"Outside of the call: {100 * outside:.2f} % of it, allowed are {100 * BUDGET:g} % ({verdict}).\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
