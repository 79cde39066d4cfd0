"""``python -m benchmarks.queue_core``: the queue without HTTP.

First throughput: accept → grant → claim → finish with leases and fences, on one store. Then what a long queue costs:
accept, grant and a page of a list with nothing and with a million prompts waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from benchmarks import queue_worker, report
from benchmarks.queue_worker import KEYS
from benchmarks.report import Budget
from benchmarks.store import MODEL, fresh_store, made_up_prompt
from deployments.ingress import wire
from deployments.local.valkey import AppendFsync
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.ids import new_id
from pipeline.query import Query, newest_first
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.listing import Listing
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.scripts import source

#: Users among whom the waiting prompts are spread.
USERS = 1000
#: Scripts sent to the store at a time while the queue is filled.
FILL_BATCH = 500
PAGE = 50
#: How often each latency is taken.
SAMPLES = 400


def throughput(fsync: AppendFsync, workers: int, seconds: float) -> dict[str, Any]:
    """Prompts per second from accept to finish, and where the CPU time went."""
    with fresh_store(fsync) as store, store.client() as admin:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
            jobs = [pool.submit(queue_worker.run, store.url, str(i), seconds) for i in range(workers)]
            results = [job.result(timeout=seconds + 60) for job in jobs]
        info: dict[str, Any] = admin.info("commandstats")
        calls = info["cmdstat_evalsha"]
        finished = sum(count for count, _ in results)
        return {
            "appendfsync": fsync,
            "workers": workers,
            "prompts_per_s": round(finished / seconds),
            "script_us": round(calls["usec_per_call"], 1),
            "scripts": calls["calls"],
            "worker_cpu_us_per_prompt": round(sum(cpu for _, cpu in results) / max(finished, 1) * 1e6),
        }


async def latencies(url: str, sizes: list[int], deadline: float) -> list[dict[str, Any]]:
    """p50 of accept, grant and a page of a list at each queue length, in µs; stops filling at the deadline."""
    client = connect_patient(url)
    await AttemptStore(client, KEYS).register(MODEL, "replica", permits=10**6, node="node", lease_s=86400)
    await _finished_prompts(client)
    rows = []
    waiting = 0
    for size in sizes:
        waiting = await _fill(client, waiting, size, deadline)
        if waiting < size:
            print(f"no time to fill the queue: {waiting:,} of {size:,}", file=sys.stderr)
        rows.append({"queued": waiting, **await _measure(client)})
        print(f"{rows[-1]}", file=sys.stderr)
        if waiting < size:
            break
    await client.aclose()
    return rows


async def _finished_prompts(client: Redis) -> None:
    """Some history, so that a list has a full page when nothing waits."""
    prompts, attempts, queue = PromptStore(client, KEYS), AttemptStore(client, KEYS), ModelQueue(client, KEYS, MODEL)
    for _ in range(2 * PAGE):
        await prompts.accept(made_up_prompt("usr-0"))
        (grant,) = await queue.grant(1, 60)
        await attempts.claim(grant.ref, grant.fence, replica="replica", lease_s=60, fingerprint="f")
        end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
        await attempts.finish(grant.ref, grant.fence, message_id=new_id("msg"), text="Yes.", meta_json="{}", end=end)


async def _fill(client: Redis, have: int, wanted: int, deadline: float) -> int:
    """Bring the queue to ``wanted`` with the accept script itself, many in a round trip. Returns how many wait then."""
    digest = await client.script_load(source("accept"))
    began, first = time.monotonic(), have
    while have < wanted and time.monotonic() < deadline:
        batch = min(FILL_BATCH, wanted - have)
        pipe = client.pipeline(transaction=False)
        for number in range(batch):
            prompt = made_up_prompt(f"usr-{(have + number) % USERS}")
            fields = [part for item in prompt.to_record().items() for part in item]
            pipe.evalsha(digest, 0, KEYS.namespace, prompt.ref, prompt.prompt[:100], *fields)
        await pipe.execute()
        have += batch
        if have % 100_000 == 0:
            print(f"{have:,} queued, {(have - first) / (time.monotonic() - began):,.0f}/s", file=sys.stderr)
    return have


async def _measure(client: Redis) -> dict[str, float]:
    prompts, queue = PromptStore(client, KEYS), ModelQueue(client, KEYS, MODEL)
    listing = Listing(client, KEYS, prompts, time_of=wire.timestamp)
    page = Query(limit=PAGE, order=newest_first(), count=True)

    async def accept() -> Callable[[], Awaitable[object]]:
        prompt = made_up_prompt("usr-0")
        await prompts.accept(prompt)
        return lambda: prompts.cancel(prompt.ref)

    async def grant() -> Callable[[], Awaitable[object]]:
        grants = await queue.grant(1, 600)
        return lambda: _hand_back(queue, grants)

    async def own_page() -> None:
        await listing.page(page, user_id="usr-0", show=wire.prompt_object)

    async def page_of_all() -> None:
        await listing.page(page, user_id=None, show=wire.prompt_object)

    spare = made_up_prompt("usr-1")
    await prompts.accept(spare)  # so that there is something to grant in an empty queue
    figures = {
        "accept_us": await _p50(accept),
        "grant_us": await _p50(grant),
        "page_us": await _p50(own_page),
        "page_of_all_us": await _p50(page_of_all),
    }
    await prompts.cancel(spare.ref)
    return figures


async def _hand_back(queue: ModelQueue, grants: list[Any]) -> None:
    for grant in grants:
        await queue.hand_back(grant.ref, grant.fence)


async def _p50(call: Callable[[], Awaitable[Callable[[], Awaitable[object]] | None]]) -> float:
    """p50 of a call in µs; what it returns is called afterwards, untimed, to undo it."""
    times = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        undo = await call()
        times.append((time.perf_counter() - began) * 1e6)
        if undo is not None:
            await undo()
    return round(report.percentile(times, 0.5), 1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_core", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="per throughput run")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--queued", type=int, default=1_000_000, help="longest queue")
    parser.add_argument("--minutes", type=float, default=6, help="stop filling the queue after this time")
    parser.add_argument("--name", default="queue_core")
    options = parser.parse_args()
    rows = [
        throughput(fsync, workers, options.seconds) for fsync in ("always", "everysec") for workers in options.workers
    ]
    for row in rows:
        print(row, file=sys.stderr)
    sizes = sorted({0, min(100_000, options.queued), options.queued})
    with fresh_store("everysec") as store:
        with store.client() as admin:
            admin.config_set("auto-aof-rewrite-percentage", 0)
        lengths = asyncio.run(latencies(store.url, sizes, time.monotonic() + options.minutes * 60))
    text = _text(rows, lengths)
    print(text)
    report.write(options.name, text, {"throughput": rows, "latency": lengths})
    return 0


def _text(rows: list[dict[str, Any]], lengths: list[dict[str, Any]]) -> str:
    best = max(row["prompts_per_s"] for row in rows)
    budgets = [Budget(what="queue core, prompts/s", limit=5000, measured=best, at_most=False)]
    shortest, longest = lengths[0], lengths[-1]
    for key, what in (
        ("accept_us", "accept"),
        ("grant_us", "grant"),
        ("page_us", "page"),
        ("page_of_all_us", "admin's page"),
    ):
        ratio = longest[key] / shortest[key]
        budgets.append(Budget(what=f"{what} p50, {longest['queued']:,} / 0 queued", limit=1.2, measured=ratio))
    return (
        f"# Queue core\n\n{report.machine()}\n\n{_table(rows)}\n"
        "accept → grant → claim → finish by the product's classes, submitters and runners in the same processes.\n\n"
        f"{_table(lengths)}\n"
        f"p50 in µs of one caller, appendfsync everysec (the disk's time would hide differences); page: {PAGE} rows with count,"
        f" newest first.\n\n## Budgets\n\n{report.budget_table(budgets)}"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    return report.markdown(
        [list(rows[0]), *([f"{v:,}" if isinstance(v, int | float) else v for v in row.values()] for row in rows)]
    )


if __name__ == "__main__":
    raise SystemExit(main())
