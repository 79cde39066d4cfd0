"""``python -m benchmarks.profile_ttft``: where the time to the first token goes, for one client.

Nothing of the product is changed for it: the store's MONITOR gives the moment of every command of a prompt's way, the
client adds its own; all are of one machine's clock. MONITOR costs the store something, so the total is a little above the
one of ``python -m benchmarks``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import redis.asyncio

from benchmarks import processes, report
from benchmarks.clients import PromptSvcClient, session
from benchmarks.systems import SYSTEMS, Running, models_dir
from benchmarks.workload import prompts
from deployments.local import embedded_model
from deployments.local.processes import RunRecord
from pipeline.ids import new_id

#: Moments of a prompt's way, in order, and what happens up to each.
MOMENTS = {
    "accepted": "POST: proxy, ingress, to the accept script in the store",
    "granted": "bell, router, ledger, to the grant in the store",
    "claimed": "grant to router, run() to the replica, to the claim in the store",
    "logged": "engine: prefill and first token; log writer, to the append in the store",
    "seen": "bell with the entry, hub, event, proxy, client",
}


async def follow(url: str, commands: list[tuple[float, str]], ready: asyncio.Event) -> None:
    """Collect the store's commands with their times, for ever."""
    client = redis.asyncio.Redis.from_url(url)
    async with client.monitor() as monitor:
        ready.set()
        async for command in monitor.listen():
            commands.append((float(command["time"]), str(command["command"])))


def moments_of(prompt_id: str, commands: list[tuple[float, str]]) -> dict[str, float]:
    """When each step of this prompt reached the store."""
    found: dict[str, float] = {}
    for moment, command in commands:
        words = command.split(" ", 5)
        if f"/{prompt_id}" not in command or len(words) < 3:
            continue
        name, key, rest = words[0].upper(), words[1], " ".join(words[2:])
        if name == "HSETNX" or (name == "ZADD" and ":i:all" in key):
            found.setdefault("accepted", moment)
        elif name == "HSET" and rest.startswith("fence "):
            found.setdefault("granted", moment)
        elif name == "HSET" and rest.startswith("holder"):
            found.setdefault("claimed", moment)
        elif name == "XADD":
            found.setdefault("logged", moment)
    return found


async def profile(running: Running, requests: int) -> list[dict[str, float]]:
    """Milliseconds since the POST began, per prompt."""
    rows = []
    async with session(running.url) as http:
        client = PromptSvcClient(http, running.password)
        running.start()
        await running.first_answer(client, 200)
        record = RunRecord.read(running.folder / "data" / "run.json")
        assert record is not None
        commands: list[tuple[float, str]] = []
        ready = asyncio.Event()
        following = asyncio.ensure_future(follow(record.redis_url, commands, ready))
        await ready.wait()
        for text in prompts(requests + 3):
            thread = new_id("thr")
            async with client.subscribed(thread) as events:
                commands.clear()
                began = time.time()
                submission = asyncio.ensure_future(client.submit(text, thread=thread, max_tokens=8))
                seen = 0.0
                async for data in events:
                    seen = seen or time.time()
                    if orjson.loads(data)["type"] != "progress":
                        break
                prompt_id = await submission
                found = {**moments_of(prompt_id, list(commands)), "seen": seen}
                rows.append({name: (moment - began) * 1000 for name, moment in found.items()})
        await client.clear()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    return rows[3:]


def table(rows: list[dict[str, float]]) -> tuple[str, dict[str, Any]]:
    """Medians of each step and of the whole, as Markdown and as data."""
    steps: dict[str, list[float]] = {name: [] for name in MOMENTS}
    whole = []
    for row in rows:
        if any(name not in row for name in MOMENTS):
            continue
        before = 0.0
        for name in MOMENTS:
            steps[name].append(row[name] - before)
            before = row[name]
        whole.append(before)
    if not whole:
        raise RuntimeError(f"no prompt showed every step in the store's MONITOR; the first showed {sorted(rows[0])}")
    lines = [["step", "p50, ms", "p90, ms"]]
    data = {}
    for name, what in MOMENTS.items():
        data[name] = report.percentile(steps[name], 0.5)
        lines.append([what, f"{data[name]:.1f}", f"{report.percentile(steps[name], 0.9):.1f}"])
    data["whole"] = report.percentile(whole, 0.5)
    lines.append(["**the whole**", f"{data['whole']:.1f}", f"{report.percentile(whole, 0.9):.1f}"])
    return report.markdown(lines), {**data, "prompts": len(whole)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_ttft", description=__doc__)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--systems", nargs="+", default=["prompt-svc", "prompt-svc-pyproxy"])
    parser.add_argument("--name", default="profile_ttft")
    parser.add_argument("--logs", type=Path, default=Path("data/bench-logs"))
    options = parser.parse_args()
    processes.adopt_orphans()
    embedded_model.ensure(models_dir())
    text, data = f"# The way to the first token\n\n{report.machine()}\n", {}
    for system in SYSTEMS:
        if system.name not in options.systems:
            continue
        running = Running(system, options.logs)
        try:
            part, data[system.name] = table(asyncio.run(profile(running, options.requests)))
            text += f"\n## {system.name}\n\n{part}"
        except Exception as error:  # The other proxy must still have its turn.
            print(f"{system.name}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            running.stop()
    print(text)
    report.write(options.name, text, data)
    return 0 if data else 1


if __name__ == "__main__":
    raise SystemExit(main())
