"""``python -m benchmarks.accept``: durable accept beside a bare Serve ingress that writes one Redis hash.

Both applications run in one Serve behind one proxy on one store, and are measured in turns. No model replica runs, so
that accepted prompts wait: generating would take the cores from both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks import processes, report
from benchmarks.clients import PromptSvcClient, session
from benchmarks.report import Budget
from benchmarks.systems import ROOT, SYSTEMS, Running, System, models_dir
from benchmarks.workload import prompts
from deployments.local import embedded_model

#: A Prompt Svc submission and what the bare ingress takes: the same body.
_BODY = {"engineParameters": {"vllm": {"max_tokens": 64, "temperature": 0}}}


def config_without_replicas(folder: Path) -> Path:
    """serve_config.yaml with no model replica, and the bare ingress beside the application."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    (application,) = config["applications"]
    for deployment in application["deployments"]:
        if deployment["name"].startswith("LLM-"):
            del deployment["num_replicas"]
            deployment["autoscaling_config"] = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1}
    application["autoscaling_policy"] = {"policy_function": "benchmarks.accept:leave_alone"}
    config["applications"].append(
        {"name": "bare", "route_prefix": "/bare", "import_path": "benchmarks.bare_ingress:build"}
    )
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def leave_alone(_contexts: dict[Any, Any]) -> tuple[dict[Any, float], None]:
    """An autoscaling policy: what waits is only to be accepted here, not to be run."""
    return {}, None


def measure(system: System, requests: int, concurrency: int, rounds: int, logs: Path) -> list[dict[str, Any]]:
    running = Running(system, logs)
    config = config_without_replicas(running.folder)
    running.command = [sys.executable, "-m", "deployments.local", str(config)]
    try:
        return asyncio.run(_measure(running, requests, concurrency, rounds))
    finally:
        running.stop()


async def _measure(running: Running, requests: int, concurrency: int, rounds: int) -> list[dict[str, Any]]:
    async with session(running.url) as http:
        client = PromptSvcClient(http, running.password)
        running.start()

        async def accept(prompt: str) -> None:
            await client.submit(prompt, max_tokens=64)

        async def bare(prompt: str) -> None:
            async with http.post("/bare/hash", json={"prompt": prompt, **_BODY}) as response:
                response.raise_for_status()
                await response.read()

        async def both() -> None:
            await client.log_in()
            await bare("warm-up")
            await accept("warm-up")

        await running.wait_for(both, 150)
        doors = {"bare Serve ingress, one hash": bare, "durable accept": accept}
        rows: list[dict[str, Any]] = [
            {"proxy": running.system.name, "what": name, "p50_ms": [], "p99_ms": [], "per_s": []} for name in doors
        ]
        for _ in range(rounds):
            for row, door in zip(rows, doors.values(), strict=True):
                times = await one_by_one(door, requests)
                row["p50_ms"].append(report.percentile(times, 0.5))
                row["p99_ms"].append(report.percentile(times, 0.99))
                row["per_s"].append(await per_second(door, requests * 2, concurrency))
        return rows


async def one_by_one(door: Callable[[str], Awaitable[None]], count: int) -> list[float]:
    """Milliseconds of each request, one after the other."""
    times = []
    for text in prompts(count):
        began = time.perf_counter()
        await door(text)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def per_second(door: Callable[[str], Awaitable[None]], count: int, concurrency: int) -> float:
    """Requests per second with ``concurrency`` under way."""
    texts = iter(prompts(count))

    async def caller() -> None:
        for text in texts:
            await door(text)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return count / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accept", description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="sequential requests per round")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=["prompt-svc", "prompt-svc-pyproxy"])
    parser.add_argument("--name", default="accept")
    parser.add_argument("--logs", type=Path, default=Path("data/bench-logs"))
    options = parser.parse_args()
    processes.adopt_orphans()
    embedded_model.ensure(models_dir())
    gc.disable()
    rows: list[dict[str, Any]] = []
    failures = []
    for system in SYSTEMS:
        if system.name in options.systems:
            try:
                rows += measure(system, options.requests, options.concurrency, options.rounds, options.logs)
            except Exception as error:  # The other proxy must still have its turn.
                failures.append(f"- {system.name}: {type(error).__name__}: {error}\n")
    text = _text(rows, failures, options.concurrency)
    print(text)
    report.write(options.name, text, rows)
    return 0 if rows else 1


def _text(rows: list[dict[str, Any]], failures: list[str], concurrency: int) -> str:
    lines = [["ingress", "", "p50, ms", "p99, ms", f"per second at {concurrency}"]]
    budgets = []
    for row in rows:
        figures = (_spread(row[key]) for key in ("p50_ms", "p99_ms", "per_s"))
        lines.append([row["proxy"], row["what"], *figures])
    for bare, durable in zip(rows[::2], rows[1::2], strict=True):
        p50 = statistics.median(durable["p50_ms"]) / statistics.median(bare["p50_ms"])
        rate = statistics.median(durable["per_s"]) / statistics.median(bare["per_s"])
        name = durable["proxy"]
        budgets.append(Budget(what=f"durable accept p50 / bare ingress, {name}", limit=1.3, measured=p50))
        budgets.append(
            Budget(what=f"durable accept throughput / bare ingress, {name}", limit=0.8, measured=rate, at_most=False)
        )
    failed = "\nFailed:\n" + "".join(failures) if failures else ""
    return (
        f"# Durable accept\n\n{report.machine()}\n\n{report.markdown(lines)}{failed}\n"
        "Medians over the rounds (smallest–largest). Both behind the same proxy on the same store (appendfsync always); no "
        f"model replica runs; the client shares the cores.\n\n## Budgets\n\n{report.budget_table(budgets)}"
    )


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    raise SystemExit(main())
