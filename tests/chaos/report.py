"""The published table: one row per fault, kept as JSON so that a run of some faults replaces only their rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos.checker import Rule
from tests.chaos.history import Kind, Outcome
from tests.chaos.run import Result
from tests.service import ROOT

EVIDENCE = ROOT / "data" / "chaos"
FOLDER = ROOT / "benchmarks" / "results"
#: Rules whose violations mean that readers saw something else than the log.
_STREAM = frozenset({Rule.STREAM, Rule.TEXT, Rule.DONE_ONCE})
_HEAD = (
    "fault", "engine", "runs", "acked", "unknown", "lost", "dup terminal", "stale tried/rejected", "stream mismatches",
    "other violations", "hit", "recovery p50/p99/max s", "next token p50/max s", "seeds", "commit",
)  # fmt: skip


def row(results: Sequence[Result], engine: str) -> dict[str, Any]:
    """The figures of all runs of one fault."""
    violations = [violation for result in results for violation in result.violations]
    recoveries = sorted(r.seconds for result in results for r in result.history.recoveries)
    tokens = sorted(r.seconds for result in results for r in result.history.next_tokens)
    rejected = sum(result.stale_rejected for result in results)
    unknown = sum(
        operation.outcome is Outcome.INFO and operation.kind in (Kind.SUBMIT, Kind.SUBMIT_SYNC)
        for result in results
        for operation in result.history.operations
    )

    def count(*rules: str) -> int:
        return sum(violation.rule in rules for violation in violations)

    other = [v for v in violations if v.rule not in {*_STREAM, Rule.LOST, Rule.TERMINAL}]
    return {
        "fault": results[0].kind.value,
        "engine": engine,
        "runs": len(results),
        "acked": sum(len(result.history.acknowledged()) for result in results),
        "unknown": unknown,
        "lost": count(Rule.LOST),
        "dup_terminal": count(Rule.TERMINAL),
        # One that was tried and not rejected would show as a wrong text or a second end.
        "stale_tried": rejected + count(Rule.TERMINAL),
        "stale_rejected": rejected,
        "stream_mismatches": count(*_STREAM),
        "other_violations": len(other),
        "hit": sum(len(fault.hit) for result in results for fault in result.history.faults),
        "recovery_s": {"p50": _at(recoveries, 0.5), "p99": _at(recoveries, 0.99), "max": _at(recoveries, 1)},
        "next_token_s": {"p50": _at(tokens, 0.5), "max": _at(tokens, 1)},
        "seeds": [result.seed for result in results],
        "run_s": [round(result.seconds, 1) for result in results],
        "commit": _commit(),
    }


def publish(rows: Sequence[dict[str, Any]], folder: Path = FOLDER) -> str:
    """Put the rows in place of older ones of the same faults; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "chaos.json"
    known = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    merged = {(r["fault"], r["engine"]): r for r in [*known, *rows]}
    document = {"cpu": _cpu(), "cores": os.cpu_count(), "rows": list(merged.values())}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = markdown(document)
    (folder / "chaos.md").write_text(text, encoding="utf-8")
    return text


def keep_evidence(result: Result, folder: Path = EVIDENCE) -> Path:
    """Write down a run whose check failed: what clients saw, what the store held."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.kind.name.lower()}-{result.seed}.json"
    content = {
        "violations": [str(violation) for violation in result.violations],
        "history": asdict(result.history),
        "dump": asdict(result.dump),
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str), encoding="utf-8")
    return file


def markdown(document: dict[str, Any]) -> str:
    rows = document["rows"]
    runs = sum(r["runs"] for r in rows)
    fewest = min((r["runs"] for r in rows), default=0)
    lines = [
        "# Chaos runs",
        "",
        f"`make chaos` on {document['cores']} cores ({document['cpu']}). A fault strikes in the middle of a seeded workload; a",
        "checker then compares what clients saw with what the store holds (invariants D1–D6 of the design).",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * len(_HEAD),
        *("| " + " | ".join(_cells(r)) + " |" for r in rows),
        "",
        "recovery: from the fault to the next log entry of each prompt it hit (`hit`: running on the victim, or running at all",
        "where the victim runs none). next token: from the fault to the first event of a prompt submitted right after it; the",
        "budget for router, ledger and ingress replica is 3 s. unknown: submissions whose reply was lost; each was tried again",
        "under the same id.",
        "",
        "No violation in n runs bounds the probability of one below 3/n (95 %): for all "
        f"{runs} runs {3 / max(runs, 1):.0%}, for the {fewest} of one fault {3 / max(fewest, 1):.0%}.",
    ]
    return "\n".join(lines) + "\n"


def _cells(r: dict[str, Any]) -> list[str]:
    recovery, token = r["recovery_s"], r["next_token_s"]
    seeds = r["seeds"]
    return [
        r["fault"],
        r["engine"],
        *(str(r[key]) for key in ("runs", "acked", "unknown", "lost", "dup_terminal")),
        f"{r['stale_tried']}/{r['stale_rejected']}",
        str(r["stream_mismatches"]),
        str(r["other_violations"]),
        str(r["hit"]),
        f"{_s(recovery['p50'])}/{_s(recovery['p99'])}/{_s(recovery['max'])}",
        f"{_s(token['p50'])}/{_s(token['max'])}",
        f"{seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
        r["commit"],
    ]


def _s(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _at(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "?"


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else "unknown CPU"
