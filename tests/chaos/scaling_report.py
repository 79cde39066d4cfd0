"""benchmarks/results/scaling.md: what ``tests.chaos.scaling`` has measured, by engine, with a plot of the replicas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks.svg import Line, chart
from tests.chaos.serve_scaling import Moment
from tests.service import ROOT

RESULTS = ROOT / "benchmarks" / "results"
ENGINES = {
    "scripted": "The scripted engine, up to 4 replicas",
    "vllm": "vLLM with the embedded model, up to 2 replicas",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    name: str
    facts: Mapping[str, Any]
    refs: Sequence[str]


def publish(engine: str, measured: Sequence[Measured], moments: Sequence[Moment], *, machine: str) -> None:
    """Keep one engine's results and write the page anew."""
    document = {
        "engine": engine,
        "machine": machine,
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "measured": [{"name": one.name, "facts": dict(one.facts)} for one in measured],
    }
    (RESULTS / f"scaling-{engine}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"scaling-{engine}.svg").write_text(_plot(moments), encoding="utf-8")
    (RESULTS / "scaling.md").write_text(page(), encoding="utf-8")


def page() -> str:
    parts = [
        "# Scaling, measured",
        "",
        "Written by `python -m tests.chaos.scaling scripted` and `... vllm`: the real application, a burst on a model that has",
        "no replica, replicas taken away under running prompts while a router and a model replica are killed with kill -9, a",
        "sawtooth, and the way back to none. What it means: [docs/scaling.md](../../docs/scaling.md).",
        "",
    ]
    for engine, title in ENGINES.items():
        path = RESULTS / f"scaling-{engine}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        parts += [f"## {title}", "", f"{document['at']}, {document['machine']}", "", "| | | |", "| --- | --- | --- |"]
        for one in document["measured"]:
            for number, (name, value) in enumerate(one["facts"].items()):
                parts.append(f"| {'' if number else one['name']} | {name} | {value} |")
        parts += ["", f"![Replicas over time](scaling-{engine}.svg)", ""]
    return "\n".join(parts)


def _plot(moments: Sequence[Moment]) -> str:
    """Target and running replicas, one value a tenth of a second."""
    began = moments[0].at
    length = int((moments[-1].at - began) * 10) + 1
    targets, running = [0.0] * length, [0.0] * length
    latest = iter(moments)
    moment = next(latest)
    following = next(latest, None)
    for tenth in range(length):
        while following is not None and (following.at - began) * 10 <= tenth:
            moment, following = following, next(latest, None)
        targets[tenth], running[tenth] = float(moment.target), float(moment.running)
    lines = [Line("running", running), Line("decided", targets)]
    return chart(lines, x="tens of seconds", x_scale=100, y="replicas")
