"""``python -m benchmarks.listing``: what a page of a list costs with a million prompts stored, and with none.

Pages as the ingress makes them, without HTTP: parsing, indexes, records, the objects that go out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from benchmarks import report
from benchmarks.history import (
    STEP_US,
    THREADS,
    USERS,
    compare_with_the_product,
    created_us,
    thread_of,
    write_history,
)
from benchmarks.report import Budget
from benchmarks.store import fresh_store, made_up_prompt
from deployments.ingress import wire
from pipeline.query import parse_query
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.listing import Listing
from pipeline.store.page import Page
from pipeline.store.prompts import PromptStore

KEYS = Keys("bench")
PAGE = 20
#: Prompts that wait, beside the history.
WAITING = 1000
SAMPLES, SAMPLES_OF_SCANS = 300, 10
NEWEST_FIRST = [{"field": "createdAt", "desc": True}]
#: Budget of a page by status or thread, ms (issue 3, point 1).
BUDGET_MS = 20


def _filter(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def cases(size: int) -> dict[str, tuple[dict[str, Any], str | None]]:
    """Name -> (query, user or None for the admin)."""
    status = {"filters": [_filter("status", "equals", "completed")], "orderBy": NEWEST_FIRST}
    thread = {"filters": [_filter("threadId", "equals", thread_of(0))]}
    both = {"filters": [_filter("status", "equals", "canceled"), *thread["filters"]], "count": True}
    middle, later = wire.timestamp(created_us(size // 2)), wire.timestamp(created_us(size // 2) + 500 * STEP_US)
    range_ = [_filter("createdAt", "gte", middle), _filter("createdAt", "lt", later)]
    never = {"filters": [_filter("runCount", "gt", 3)]}
    return {
        "by status": (status, "usr-0"),
        "by status, admin": (status, None),
        "by status, with count, admin": ({**status, "count": True}, None),
        "by status, after the middle, admin": ({**status, "after": middle}, None),
        "what is active (no filter), admin": ({}, None),
        "by thread": (thread, "usr-0"),
        "by thread, with count": ({**thread, "count": True}, "usr-0"),
        "by thread, admin": (thread, None),
        "by thread and status, with count": (both, "usr-0"),
        "100 threads at once": ({"filters": [_filter("threadId", "in", _threads(100))]}, None),
        "by user, with count, admin": ({"filters": [_filter("userId", "equals", "usr-7")], "count": True}, None),
        "own, newest first, with count": ({"orderBy": NEWEST_FIRST, "count": True}, "usr-0"),
        "all, newest first, with count, admin": ({"orderBy": NEWEST_FIRST, "count": True}, None),
        "created within a range, with count, admin": ({"filters": range_, "count": True}, None),
        "by id, admin": ({"filters": [_filter("id", "equals", "prom-0")]}, None),
        "scan: own runCount > 3, with count": ({**never, "count": True}, "usr-0"),
        "scan: runCount > 3, admin": (never, None),
        "scan: own, by updatedAt": ({"orderBy": [{"field": "updatedAt"}]}, "usr-0"),
        "scan: all, by updatedAt, admin": ({"orderBy": [{"field": "updatedAt"}]}, None),
    }


def _threads(count: int) -> list[str]:
    return [thread_of(user + USERS * thread) for user in range(count // THREADS) for thread in range(THREADS)]


async def measure(client: Redis, size: int) -> list[dict[str, Any]]:
    listing = Listing(client, KEYS, PromptStore(client, KEYS), time_of=wire.timestamp)
    rows = []
    for name, (raw, user) in cases(size).items():
        is_scan = name.startswith("scan")

        async def once(raw: Mapping[str, Any] = raw, user: str | None = user) -> Page:
            page = await listing.page(parse_query(raw), user_id=user, show=wire.prompt_object)
            for prompt in page.prompts:
                wire.prompt_object(prompt)
            return page

        times = []
        page = await once()
        for _ in range(SAMPLES_OF_SCANS if is_scan else SAMPLES):
            began = time.perf_counter()
            page = await once()
            times.append((time.perf_counter() - began) * 1e3)
        rows.append(
            {
                "page": name,
                "p50_ms": round(report.percentile(times, 0.5), 2),
                "p99_ms": round(report.percentile(times, 0.99), 2),
                "rows": len(page.prompts),
                "count": page.count,
                "truncated": page.is_truncated,
            }
        )
        print(f"{size:,}: {rows[-1]}", file=sys.stderr)
    return rows


async def run(url: str, sizes: list[int]) -> tuple[dict[int, list[dict[str, Any]]], float]:
    client = connect_patient(url)
    await compare_with_the_product(client)
    await client.flushdb()
    found: dict[int, list[dict[str, Any]]] = {}
    have = 0
    for size in sizes:
        await write_history(client, KEYS, have, size)
        if size and not have:
            prompts = PromptStore(client, KEYS)
            for number in range(min(WAITING, size)):
                await prompts.accept(made_up_prompt(f"usr-{number % USERS}"))
        have = size
        found[size] = await measure(client, size)
    memory = float((await client.info("memory"))["used_memory"]) / 2**30
    await client.aclose()
    return found, memory


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listing", description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000, help="prompts in the longest history")
    parser.add_argument("--name", default="listing")
    options = parser.parse_args()
    with fresh_store("everysec") as store:
        with store.client() as admin:
            # Nothing here is about writing: the file would only cost disk, and memory while it is rewritten.
            admin.config_set("appendonly", "no")
        found, memory = asyncio.run(run(store.url, sorted({0, min(1000, options.stored), options.stored})))
    text = _text(found, memory)
    print(text)
    report.write(options.name, text, {"pages": found, "store_gib": round(memory, 2)})
    return 0


def _text(found: Mapping[int, list[dict[str, Any]]], memory: float) -> str:
    sizes = list(found)
    last = {row["page"]: row for row in found[sizes[-1]]}
    lines = [["page", *(f"p50 / p99 ms, {size:,}" for size in sizes), "rows", "count", "truncated"]]
    for i, (name, row) in enumerate(last.items()):
        figures = [f"{found[size][i]['p50_ms']:.2f} / {found[size][i]['p99_ms']:.2f}" for size in sizes]
        count = "–" if row["count"] is None else f"{row['count']:,}"
        lines.append([name, *figures, str(row["rows"]), count, "yes" if row["truncated"] else "no"])
    budgets = [
        Budget(what=f"{name}, p50 with {sizes[-1]:,} stored", limit=BUDGET_MS, measured=row["p50_ms"], unit=" ms")
        for name, row in last.items()
        if name.startswith(("by status", "by thread"))
    ]
    return (
        f"# Listing\n\n{report.machine()}\n\n{report.markdown(lines)}\n"
        f"One caller, {PAGE} rows a page, no HTTP; rows, count and truncated with {sizes[-1]:,} stored: {USERS:,} users with"
        f" {THREADS} threads each, one prompt in twenty cancelled, the others completed, and {WAITING:,} that wait. The store"
        f" takes {memory:.1f} GiB. A scan looks at 10,000 prompts or for a second, whichever is less, then says so and where"
        " to go on.\n\n"
        f"## Budgets\n\n{report.budget_table(budgets)}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
