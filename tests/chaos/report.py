"""The published table: one row per fault, kept as JSON with every single time, so that further runs of the same commit with
other seeds add to a row; those of another commit replace it."""

from __future__ import annotations

import json
import math
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
        "recovery_s": [round(r.seconds, 3) for result in results for r in result.history.recoveries],
        "next_token_s": [round(r.seconds, 3) for result in results for r in result.history.next_tokens],
        "seeds": [result.seed for result in results],
        "run_s": [round(result.seconds, 1) for result in results],
        "commit": _commit(),
    }


def publish(rows: Sequence[dict[str, Any]], folder: Path = FOLDER) -> str:
    """Put the rows among those of other faults; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "chaos.json"
    known = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for one in [*known, *rows]:
        key = one["fault"], one["engine"]
        merged[key] = _together(merged[key], one) if key in merged else one
    document = {"cpu": _cpu(), "cores": os.cpu_count(), "rows": list(merged.values())}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = markdown(document)
    (folder / "chaos.md").write_text(text, encoding="utf-8")
    return text


def _together(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    if old["commit"] != new["commit"] or set(old["seeds"]) & set(new["seeds"]):
        return new
    return {key: value if isinstance(value, str) else old[key] + value for key, value in new.items()}


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
    recovery, token, seeds = sorted(r["recovery_s"]), sorted(r["next_token_s"]), sorted(r["seeds"])
    return [
        r["fault"],
        r["engine"],
        *(str(r[key]) for key in ("runs", "acked", "unknown", "lost", "dup_terminal")),
        f"{r['stale_tried']}/{r['stale_rejected']}",
        str(r["stream_mismatches"]),
        str(r["other_violations"]),
        str(r["hit"]),
        f"{_at(recovery, 0.5)}/{_at(recovery, 0.99)}/{_at(recovery, 1)}",
        f"{_at(token, 0.5)}/{_at(token, 1)}",
        f"{seeds[0]}–{seeds[-1]}" if len(seeds) > 1 else str(seeds[0]),
        r["commit"],
    ]


def _at(ordered: Sequence[float], share: float) -> str:
    """A quantile, by the nearest rank."""
    return f"{ordered[max(0, math.ceil(share * len(ordered)) - 1)]:.2f}" if ordered else "–"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "?"


def _cpu() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else "unknown CPU"
