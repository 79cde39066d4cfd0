"""``python -m benchmarks.profile_cpu``: whose CPU time a token costs, with 32 streams. On a machine whose cores are all busy,
throughput is what this sums to."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import processes, report
from benchmarks.clients import session
from benchmarks.serving import concurrently, one_client
from benchmarks.systems import SYSTEMS, Running, model_dir, models_dir
from benchmarks.workload import MAX_TOKENS, count_tokens, prompts
from deployments.local import embedded_model

STREAMS = 32
#: What a process is, by its command line; the first that fits.
_ROLES = {
    "engine": r"ServeReplica:[^:]*:LLM|vllm|VLLM::|LLMServer",
    "ingress": r"ServeReplica:[^:]*:(Ingress|OpenAiIngress)",
    "router": r"ServeReplica:[^:]*:Router",
    "ledger": r"PromptLedger|Ledger",
    "HTTP proxy": r"[Pp]roxy",
    "store": r"valkey|redis-server",
}
_REST = "Ray's own processes and the rest"
_CLIENT = "client of the benchmark"


def role_of(command: str) -> str:
    """Which part of a system a process is."""
    return next((role for role, pattern in _ROLES.items() if re.search(pattern, command)), _REST)


def per_token(before: Mapping[str, float], after: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Milliseconds of CPU time per token and role, the dearest first. A process that has ended in between is not in it."""
    used: defaultdict[str, float] = defaultdict(float)
    for process, seconds in after.items():
        used[role_of(process)] += seconds - before.get(process, 0.0)
    dearest = sorted(used.items(), key=lambda item: -item[1])
    return {role: 1000 * seconds / tokens for role, seconds in dearest}


async def _measure(running: Running, rounds: int) -> tuple[dict[str, float], float]:
    """CPU per token, and tokens per second."""
    async with session(running.url) as http:
        client = running.system.client(http, running.password)
        running.start()
        await running.first_answer(client, 200)
        await one_client(client, prompts(3), max_tokens=8)
        await concurrently(client, STREAMS, 1, 16)
        before, own = processes.cpu_seconds(), processes.own_cpu_seconds()
        answers = await concurrently(client, STREAMS, rounds, MAX_TOKENS)
        after, own = processes.cpu_seconds(), processes.own_cpu_seconds() - own
        tokens = count_tokens(model_dir(), [answer.text for answer in answers])
        took = max(a.last for a in answers) - min(a.asked for a in answers)
        await client.clear()
    return {**per_token(before, after, tokens), _CLIENT: 1000 * own / tokens}, tokens / took


def table(rows: Mapping[str, tuple[Mapping[str, float], float]]) -> str:
    """Roles as lines, systems as columns."""
    roles = [*_ROLES, _REST, _CLIENT]
    lines = [["CPU per token, ms", *rows]]
    for role in roles:
        lines.append([role, *(f"{costs[role]:.2f}" if role in costs else "" for costs, _ in rows.values())])
    lines.append(["**all**", *(f"{sum(costs.values()):.2f}" for costs, _ in rows.values())])
    lines.append(["tokens/s", *(f"{speed:.0f}" for _, speed in rows.values())])
    return report.markdown(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_cpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="answers per stream")
    parser.add_argument(
        "--systems", nargs="+", default=["vllm-uniproc", "vllm-as-replica", "prompt-svc", "prompt-svc-pyproxy"]
    )
    parser.add_argument("--name", default="profile_cpu")
    parser.add_argument("--logs", type=Path, default=Path("data/bench-logs"))
    options = parser.parse_args()
    processes.adopt_orphans()
    embedded_model.ensure(models_dir())
    rows: dict[str, tuple[dict[str, float], float]] = {}
    for system in SYSTEMS:
        if system.name not in options.systems:
            continue
        running = Running(system, options.logs)
        try:
            rows[system.name] = asyncio.run(_measure(running, options.rounds))
        except Exception as error:  # The others must still have their turn.
            print(f"{system.name}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            running.stop()
    text = f"# Whose CPU time a token costs, {STREAMS} streams\n\n{report.machine()}\n\n{table(rows)}"
    print(text)
    data: dict[str, Any] = {name: {**costs, "tokens_per_s": speed} for name, (costs, speed) in rows.items()}
    report.write(options.name, text, data)
    return 0 if rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
