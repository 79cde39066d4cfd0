"""Medians, spreads, tables; and the budgets of the design that a serving run can judge."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import Cell

RESULTS = Path(__file__).resolve().parent / "results"

Row = dict[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def serving_rows(cells: Mapping[str, Sequence[Cell]]) -> list[Row]:
    """One row per system: medians over rounds; ``<key>_min`` and ``<key>_max`` hold the spread."""
    return [_row(system, rounds) for system, rounds in cells.items()]


def _row(system: str, rounds: Sequence[Cell]) -> Row:
    row: Row = {"system": system}
    figures: dict[str, list[float | None]] = {
        "ttft_p50_ms": [percentile(cell.ttft_ms, 0.5) if cell.ttft_ms else None for cell in rounds],
        "ttft_p99_ms": [percentile(cell.ttft_ms, 0.99) if cell.ttft_ms else None for cell in rounds],
        "tokens_per_s_8": [cell.tokens_per_s.get(8) for cell in rounds],
        "tokens_per_s_32": [cell.tokens_per_s.get(32) for cell in rounds],
        "accepts_per_s": [cell.accepts_per_s for cell in rounds],
        "ready_s": [cell.ready_s for cell in rounds],
        "rss_mb": [cell.rss_mb for cell in rounds],
        "ttft_at_8_p50_ms": [cell.ttft_loaded_ms.get(8) for cell in rounds],
        "ttft_at_32_p50_ms": [cell.ttft_loaded_ms.get(32) for cell in rounds],
    }
    for name, values in figures.items():
        known = [value for value in values if value is not None]
        row[name] = round(statistics.median(known), 1) if known else None
        row[f"{name}_min"] = round(min(known), 1) if known else None
        row[f"{name}_max"] = round(max(known), 1) if known else None
    row["rounds"] = sum(1 for cell in rounds if not cell.error)
    row["errors"] = [cell.error for cell in rounds if cell.error]
    row["memory_mb"] = next((cell.memory_mb for cell in reversed(rounds) if cell.memory_mb), {})
    return row


_COLUMNS = (
    ("TTFT p50, ms", "ttft_p50_ms"),
    ("TTFT p99, ms", "ttft_p99_ms"),
    ("tokens/s at 8", "tokens_per_s_8"),
    ("tokens/s at 32", "tokens_per_s_32"),
    ("accepts/s", "accepts_per_s"),
    ("ready, s", "ready_s"),
    ("memory (PSS), MB", "rss_mb"),
)


def serving_table(rows: Sequence[Row]) -> str:
    lines = [["system", *(title for title, _ in _COLUMNS), "rounds"]]
    for row in rows:
        rounds = str(row["rounds"]) + (f", {len(row['errors'])} failed" if row["errors"] else "")
        lines.append([row["system"], *(_with_spread(row, key) for _, key in _COLUMNS), rounds])
    failures = [f"- {row['system']}: {error}" for row in rows for error in row["errors"]]
    return markdown(lines) + ("\nFailed rounds:\n" + "\n".join(failures) + "\n" if failures else "")


def _with_spread(row: Row, key: str) -> str:
    if row[key] is None:
        return "–"
    digits = 0 if row[key] >= 100 else 1
    return f"{row[key]:.{digits}f} ({row[f'{key}_min']:.{digits}f}–{row[f'{key}_max']:.{digits}f})"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One budget of DESIGN §7 and what was measured."""

    what: str
    limit: float
    measured: float | None
    unit: str = ""
    #: Whether less is better.
    at_most: bool = True

    @property
    def line(self) -> list[str]:
        sign = "≤" if self.at_most else "≥"
        allowed = f"{sign} {self.limit:g}{self.unit}"
        if self.measured is None or math.isnan(self.measured):
            return [self.what, allowed, "not measured", "–", "–"]
        met = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return [self.what, allowed, f"{self.measured:.4g}{self.unit}", "yes" if met else "**no**", self._gap(met)]

    def _gap(self, met: bool) -> str:
        assert self.measured is not None
        return "–" if met else f"{abs(self.measured - self.limit):.3g}{self.unit}"


def serving_budgets(rows: Sequence[Row]) -> list[Budget]:
    by_name = {row["system"]: row for row in rows}

    def value(system: str, key: str) -> float | None:
        found: float | None = by_name.get(system, {}).get(key)
        return found

    def minus(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    def over(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a / b

    budgets = []
    for system, limit in (("prompt-svc", 10.0), ("prompt-svc-openai", 10.0), ("prompt-svc-pyproxy", 20.0)):
        for baseline in ("vllm", "vllm-uniproc", "vllm-as-replica"):
            added = minus(value(system, "ttft_p50_ms"), value(baseline, "ttft_p50_ms"))
            what = f"TTFT p50, one client, added by {system} over {baseline}"
            budgets.append(Budget(what=what, limit=limit, measured=added, unit=" ms"))
    for system in ("prompt-svc", "prompt-svc-openai", "prompt-svc-pyproxy"):
        for baseline, least in (("vllm-uniproc", 0.95), ("vllm-as-replica", 0.95), ("vllm", 1.2)):
            ratio = over(value(system, "tokens_per_s_32"), value(baseline, "tokens_per_s_32"))
            what = f"tokens/s at 32 streams, {system} / {baseline}"
            budgets.append(Budget(what=what, limit=least, measured=ratio, at_most=False))
    return budgets


def budget_table(budgets: Sequence[Budget]) -> str:
    return markdown([["budget", "allowed", "measured", "met", "gap"], *(budget.line for budget in budgets)])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *rest = lines
    rows = [head, ["---", *("---:" for _ in head[1:])], *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def machine() -> str:
    """One line about where and when this was measured."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{when}, {os.cpu_count()} cores ({model}), load average {load:.1f}, Python {platform.python_version()}"


def write(name: str, text: str, data: object) -> None:
    """``<name>.md`` and ``<name>.json`` among the results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_rounds(name: str, data: object) -> None:
    """Every single figure, for those who want to look closer."""
    (RESULTS / f"{name}-rounds.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
