"""One process of the queue benchmark: submitters, a ledger and a replica, all at once, on the product's own classes."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass

import uvloop
from redis.asyncio import Redis

from benchmarks.store import MODEL, made_up_prompt
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.ids import new_id
from pipeline.store.attempts import AttemptStore
from pipeline.store.connection import connect_patient
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import Grant, ModelQueue

KEYS = Keys("bench")
#: Attempts of one process at a time; its permits.
RUNNERS = 64
SUBMITTERS = 64
#: Prompts of one process that are accepted and not finished.
MOST_OPEN = 512
_ANSWER = "The keeper climbed down to the rocks, where a green bottle lay between the stones. " * 3
_META = '{"modelId":"m","finishReason":"length","promptTokens":48,"completionTokens":64}'


@dataclass(kw_only=True)
class Counts:
    accepted: int = 0
    finished: int = 0


def run(url: str, name: str, seconds: float) -> tuple[int, float]:
    """Keep the queue busy for that long; returns prompts that this process finished, and its CPU seconds."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(url, name, seconds))


async def _run(url: str, name: str, seconds: float) -> tuple[int, float]:
    client = connect_patient(url)
    supervisor = Supervisor()
    counts = Counts()
    grants: asyncio.Queue[Grant] = asyncio.Queue(RUNNERS)
    replica = f"replica-{name}"
    prompts, attempts = PromptStore(client, KEYS), AttemptStore(client, KEYS)
    await attempts.register(MODEL, replica, permits=2 * RUNNERS, node="node", lease_s=600)
    cpu = time.process_time()
    for number in range(SUBMITTERS):
        supervisor.keep_running(lambda n=number: _submit(prompts, f"usr-{name}-{n}", counts), name="submitter")  # type: ignore[misc]
    supervisor.keep_running(lambda: _grant(client, grants), name="ledger")
    for _ in range(RUNNERS):
        supervisor.keep_running(lambda: _work(attempts, replica, grants, counts), name="runner")
    await asyncio.sleep(1)  # until every part is at work
    before = counts.finished
    await asyncio.sleep(seconds)
    finished = counts.finished - before
    cpu = (time.process_time() - cpu) * seconds / (seconds + 1)
    await supervisor.stop()
    await client.aclose()
    return finished, cpu


async def _submit(store: PromptStore, user: str, counts: Counts) -> None:
    while True:
        if counts.accepted - counts.finished > MOST_OPEN:
            await asyncio.sleep(0.001)
            continue
        counts.accepted += 1
        await store.accept(made_up_prompt(user))


async def _grant(client: Redis, grants: asyncio.Queue[Grant]) -> None:
    queue = ModelQueue(client, KEYS, MODEL)
    while True:
        found = await queue.grant(RUNNERS, 600)
        for grant in found:
            await grants.put(grant)
        if not found:
            await asyncio.sleep(0.001)


async def _work(store: AttemptStore, replica: str, grants: asyncio.Queue[Grant], counts: Counts) -> None:
    end = Delta(kind=DeltaKind.END, finish_reason=FinishReason.LENGTH)
    for _ in itertools.count():
        grant = await grants.get()
        await store.claim(grant.ref, grant.fence, replica=replica, lease_s=600, fingerprint="f")
        await store.finish(grant.ref, grant.fence, message_id=new_id("msg"), text=_ANSWER, meta_json=_META, end=end)
        counts.finished += 1
