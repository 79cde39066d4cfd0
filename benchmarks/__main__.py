"""``python -m benchmarks``: the serving benchmark, every system in interleaved rounds."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import processes, report
from benchmarks.serving import Cell, Plan, measure
from benchmarks.systems import SYSTEMS, models_dir
from deployments.local import embedded_model

NOTE = """
Medians over the rounds, in brackets the smallest and the largest round. The client is one asyncio process on the same
cores. TTFT: {requests} requests one after the other per round; for prompt-svc from the start of the POST to the first
progress chunk of a thread that is subscribed to; prompt-svc-openai is the same service, asked as vLLM's server is. tokens/s:
answers of at most {max_tokens} tokens at temperature 0,
counted by tokenizing the texts, from the first POST to the last token. accepts/s: async submissions while the model
works on them. vllm-as-replica has the environment that serve_config.yaml gives our replica, vllm-uniproc the same without
`OMP_WAIT_POLICY`. Memory: PSS of all processes of the system after the load, store and Ray included.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20, help="sequential requests per round")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--systems", nargs="+", default=[system.name for system in SYSTEMS])
    parser.add_argument("--minutes", type=float, default=60, help="start no further round after this time")
    parser.add_argument("--name", default="serving", help="name of the result files")
    parser.add_argument("--logs", type=Path, default=Path("data/bench-logs"), help="folder for what the systems print")
    options = parser.parse_args()
    unknown = set(options.systems) - {system.name for system in SYSTEMS}
    if unknown:
        parser.error(f"--systems: got {', '.join(sorted(unknown))}, allowed are {', '.join(s.name for s in SYSTEMS)}")
    systems = [system for system in SYSTEMS if system.name in options.systems]
    plan = Plan(requests=options.requests, max_tokens=options.max_tokens)
    processes.adopt_orphans()
    embedded_model.ensure(models_dir())
    gc.disable()  # a collection of the client's would be measured as the server's
    began = time.monotonic()
    cells: dict[str, list[Cell]] = {system.name: [] for system in systems}
    slowest_round = 0.0
    for number in range(options.rounds):
        # A round that would not end in time would only be there for some of the systems.
        elapsed = time.monotonic() - began
        if number and elapsed + slowest_round > options.minutes * 60:
            print(f"no time for round {number + 1}", file=sys.stderr)
            break
        for system in systems:
            started = time.monotonic()
            cell = measure(system, plan, options.logs)
            cells[system.name].append(cell)
            gc.collect()
            print(
                f"round {number + 1} {system.name}: {_brief(cell)} [{time.monotonic() - started:.0f} s]",
                file=sys.stderr,
            )
        slowest_round = max(slowest_round, time.monotonic() - began - elapsed)
    rows = report.serving_rows(cells)
    text = (
        f"# Serving\n\n{report.machine()}\n\n{report.serving_table(rows)}"
        f"{NOTE.format(requests=options.requests, max_tokens=options.max_tokens)}\n"
        f"## Budgets\n\n{report.budget_table(report.serving_budgets(rows))}"
    )
    print(text)
    report.write(options.name, text, rows)
    report.write_rounds(options.name, {name: [asdict(cell) for cell in rounds] for name, rounds in cells.items()})
    return 0


def _brief(cell: Cell) -> str:
    if cell.error:
        return f"FAILED {cell.error}"
    rates = ", ".join(f"{rate:.0f} tokens/s at {streams}" for streams, rate in cell.tokens_per_s.items())
    return f"ready {cell.ready_s:.1f} s, TTFT {report.percentile(cell.ttft_ms, 0.5):.0f} ms, {rates}"


if __name__ == "__main__":
    raise SystemExit(main())
