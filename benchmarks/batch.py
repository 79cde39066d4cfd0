"""``python -m benchmarks.batch``: a file of 10,000 prompts through a handle, killed with -9 on the way and resumed; a shorter
one by HTTP; and how long a run takes to find its place in a million lines.

The model is the scripted one, which answers at once: what is measured is the service and the batch, not a GPU. Every line must
be in the output exactly once, or there is no result.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks import processes, report
from benchmarks.systems import ROOT, SYSTEMS, Running
from deployments.local.environment import Folders
from deployments.local.ray_environment import ray_environment
from tests.served_config import replace_models

MODEL_ID = "bench/scripted"
ANSWER_TOKENS = 12


def config(folder: Path) -> Path:
    """serve_config.yaml with a scripted model in place of its own."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    (application,) = found["applications"]
    engine = {"step_s": 0.0, "answer_tokens": ANSWER_TOKENS, "tokens_per_delta": 4}
    model = {"id": MODEL_ID, "engine": "scripted", "source": "scripted", "permits": 256, "engine_args": engine}
    replace_models(application, [model])
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
    return path


def write_input(path: Path, lines: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, lines + 1):
            file.write(json.dumps({"id": f"q-{number}", "prompt": f"What is the capital of country {number}?"}) + "\n")


class BatchFailed(Exception):
    """A run did not do what it must."""


class Batch:
    """One input, one output."""

    def __init__(self, folder: Path, name: str, lines: int) -> None:
        self.name = name
        self.lines = lines
        self.input, self.output = folder / f"{name}.jsonl", folder / f"{name}.out.jsonl"
        write_input(self.input, lines)

    def run(self, environ: Mapping[str, str], options: Sequence[str], *, kill_at: int | None = None) -> dict[str, Any]:
        """Run it, to its end or until it is killed behind so many lines; what was measured.

        Raises:
            BatchFailed: it ended otherwise.
        """
        command = [sys.executable, "-m", "clients.batch", str(self.input), str(self.output), *options]
        began = time.perf_counter()
        with subprocess.Popen(
            command, env=dict(environ), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            peak_mb = 0.0
            while process.poll() is None:
                peak_mb = max(peak_mb, _peak_mb(process.pid))
                if kill_at is not None and self.written() >= kill_at:
                    process.send_signal(signal.SIGKILL)
                    kill_at = None
                time.sleep(0.02)
            assert process.stdout is not None
            assert process.stderr is not None
            summary, complaints = process.stdout.read().strip(), process.stderr.read().strip().splitlines()[-1:]
            if process.returncode not in (0, -signal.SIGKILL):
                raise BatchFailed(f"{self.name}: exit code {process.returncode}: {summary} {complaints}")
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "peak_mb": peak_mb, "written": self.written(), "summary": summary}

    def written(self) -> int:
        return self.output.read_bytes().count(b"\n") if self.output.exists() else 0

    def check(self) -> None:
        """Raises BatchFailed unless every line is in the output exactly once."""
        with self.output.open("rb") as file:
            found = sorted(json.loads(line)["line"] for line in file)
        if found != list(range(1, self.lines + 1)):
            raise BatchFailed(
                f"{self.name}: {len(found)} records of {len(set(found))} lines, {self.lines} are expected"
            )


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)


def pretend_done(batch: Batch, but: int) -> None:
    """Records of all lines but the last few, as earlier runs would have left them."""
    answer = "The capital of the country is named in the answer to another question."
    with batch.output.open("w", encoding="utf-8") as file:
        for number in range(1, batch.lines - but + 1):
            file.write(json.dumps({"line": number, "id": f"q-{number}", "status": "completed", "text": answer}) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--http-lines", type=int, default=2_000)
    parser.add_argument("--long", type=int, default=1_000_000, help="lines of the file that a run finds its place in")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--logs", type=Path, default=Path("data/bench-logs"))
    options = parser.parse_args()
    processes.adopt_orphans()
    system = next(system for system in SYSTEMS if system.name == "prompt-svc-pyproxy")
    running = Running(system, options.logs)
    running.command = [sys.executable, "-m", "deployments.local", str(config(running.folder))]
    try:
        running.start()
        token = _token(running)
        rows = measure(running, token, options)
    finally:
        running.stop()
    text = _text(rows, options.concurrency)
    print(text)
    report.write("batch", text, rows)
    return 0


def _token(running: Running, timeout_s: float = 120) -> str:
    """Wait until the service runs and log in."""
    body = {"appHost": "bench", "slug": "1backend", "password": running.password}
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            response = httpx.post(f"{running.url}/user-svc/login", json=body, timeout=10)
            response.raise_for_status()
            return str(response.json()["token"]["token"])
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def measure(running: Running, token: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    inherited = {name: value for name, value in running.environ().items() if not name.startswith("RAY_AUTH")}
    found = ray_environment(Folders.of({"PROMPT_SVC_DATA_DIR": str(running.folder / "data")}), {})
    if found is None:
        raise BatchFailed("the service does not run")
    in_ray = {**inherited, **found}
    parallel = ["--concurrency", str(options.concurrency)]
    rows: list[dict[str, Any]] = []

    def add(what: str, batch: Batch, result: dict[str, Any], before: int = 0) -> None:
        rows.append({"what": what, "lines": result["written"] - before, "of": batch.lines, **result})
        print(f"{what}: {result['summary'] or 'killed'}", flush=True)

    Batch(running.folder, "warm", 200).run(in_ray, parallel)

    killed = Batch(running.folder, "killed", options.lines)
    first = killed.run(in_ray, parallel, kill_at=options.lines * 2 // 5)
    add("handle, killed with -9", killed, first)
    add("handle, resumed", killed, killed.run(in_ray, parallel), before=first["written"])
    killed.check()

    whole = Batch(running.folder, "whole", options.lines)
    add("handle, undisturbed", whole, whole.run(in_ray, parallel))
    whole.check()

    http = Batch(running.folder, "http", options.http_lines)
    by_http = [*parallel, "--url", running.url]
    add("HTTP (Serve's Python proxy)", http, http.run({**inherited, "PROMPT_SVC_TOKEN": token}, by_http))
    http.check()

    long = Batch(running.folder, "long", options.long)
    long.run(in_ray, [*parallel], kill_at=1)
    pretend_done(long, 10)
    before = long.written()
    add("handle, the last 10 of many lines", long, long.run(in_ray, parallel), before=before)
    long.check()
    return rows


def _text(rows: list[dict[str, Any]], concurrency: int) -> str:
    lines = [["run", "lines", "of", "seconds", "prompts/s", "peak memory of the batch, MiB"]]
    for row in rows:
        seconds = row["seconds"]
        lines.append(
            [
                row["what"],
                f"{row['lines']:,}",
                f"{row['of']:,}",
                f"{seconds:.1f}",
                f"{row['lines'] / seconds:.0f}",
                f"{row['peak_mb']:.0f}",
            ]
        )
    said = "\n".join(f"    {row['what']}: {row['summary']}" for row in rows if row["summary"])
    return (
        f"# Batch\n\n{report.machine()}\n\n{report.markdown(lines)}\n"
        f"{concurrency} lines in flight; a scripted model that answers {ANSWER_TOKENS} tokens at once; the batch, the service, "
        "Ray and the store (appendfsync always) share the cores. Seconds and prompts/s are of the whole process, its start and "
        "its connection to Ray included. After each resumed or undisturbed run every line was in the output exactly once.\n\n"
        f"What the runs said at their end:\n\n{said}\n"
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    raise SystemExit(main())
