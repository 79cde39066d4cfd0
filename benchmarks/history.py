"""A history of prompts that have ended, as if the product had run them: written by one script, a thousand times faster, and
compared with what the product's own scripts leave."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from benchmarks.store import MODEL
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys, lua_prelude
from pipeline.store.logs import encode_delta
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue

USERS, THREADS = 1000, 20
#: As long as keeps a record in the store's compact form.
PROMPT = "Write a long text about a lighthouse keeper and a bottle."
ANSWER, META = "Once upon a time there was a lighthouse.", '{"finishReason": "stop"}'
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)
#: Prompts written by one call of the script.
BATCH = 1000
#: Creation of the first prompt and the time between two, µs: all of them in the past.
BEGIN_US, STEP_US = 1_700_000_000_000_000, 2_000_000


def created_us(number: int) -> int:
    return BEGIN_US + number * STEP_US


def user_of(number: int) -> str:
    return f"usr-{number % USERS}"


def thread_of(number: int) -> str:
    return f"{user_of(number)}-thread-{number // USERS % THREADS}"


async def write_history(client: Redis, keys: Keys, have: int, wanted: int) -> None:
    """Bring the history from ``have`` prompts to ``wanted``; one in twenty was cancelled, the others are completed."""
    source = lua_prelude() + (Path(__file__).parent / "history.lua").read_text(encoding="utf-8")
    digest = await client.script_load(source)
    began, first = time.monotonic(), have
    while have < wanted:
        pipe = client.pipeline(transaction=False)
        for _ in range(10):
            count = min(BATCH, wanted - have)
            if count:
                pipe.evalsha(
                    digest, 0, keys.namespace, have, count, USERS, THREADS, MODEL, PROMPT, ANSWER, META,
                    BEGIN_US, STEP_US, *encode_delta(END),
                )  # fmt: skip
            have += count
        await pipe.execute()
        if have % 100_000 == 0:
            print(f"{have:,} stored, {(have - first) / (time.monotonic() - began):,.0f}/s", file=sys.stderr)


async def compare_with_the_product(client: Redis, sample: int = 200) -> None:
    """Run some prompts through the product and write the same ones as history.

    Raises:
        AssertionError: they differ in more than times and the queue's counters.
    """
    real, made = Keys("real"), Keys("made")
    prompts, attempts, queue = PromptStore(client, real), AttemptStore(client, real), ModelQueue(client, real, MODEL)
    await attempts.register(MODEL, "replica", permits=10, node="node", lease_s=1000)
    # Several prompts of a thread are among them.
    numbers = sorted({*range(sample), *(n + USERS * THREADS for n in range(sample))})
    for number in numbers:
        new = NewPrompt(
            id=f"prom-{number}",
            user_id=user_of(number),
            thread_id=thread_of(number),
            model_id=MODEL,
            prompt=PROMPT,
            prompt_token_ids=(1, 2, 3),
        )
        await prompts.accept(new)
        if (number + number // USERS) % 20 == 0:
            await prompts.cancel(new.ref)
            continue
        (grant,) = await queue.grant(1, 1000)
        await attempts.claim(grant.ref, grant.fence, replica="replica", lease_s=1000, fingerprint="f")
        await attempts.finish(grant.ref, grant.fence, message_id=f"msg-{number}", text=ANSWER, meta_json=META, end=END)
    await write_history(client, made, 0, sample)
    await write_history(client, made, USERS * THREADS, USERS * THREADS + sample)
    left, right = await _content(client, real), await _content(client, made)
    differing = [key for key in left.keys() | right.keys() if left.get(key) != right.get(key)]
    assert not differing, f"{differing[0]}: the product has {left.get(differing[0])}, here is {right.get(differing[0])}"
    print(f"{len(left):,} keys of {len(numbers)} prompts are as the product writes them", file=sys.stderr)


async def _content(client: Redis, keys: Keys) -> dict[str, Any]:
    """What the keys of a namespace hold, without times; indexes by time as the order of their members."""
    found: dict[str, Any] = {}
    async for raw in client.scan_iter(f"{keys.namespace}:*"):
        key = raw.decode()
        name = key.removeprefix(f"{keys.namespace}:")
        if name.startswith("q-") or name == "seq":
            continue
        kind = await client.type(key)
        value: Any
        if kind == b"hash":
            times = (b"created", b"updated", b"last_run")
            value = {f: bool(int(v)) if f in times else v for f, v in (await client.hgetall(key)).items()}
        elif kind == b"zset":
            value = await client.zrange(key, 0, -1, withscores=name.startswith("t-"))
        elif kind == b"stream":
            value = await client.xrange(key)
        else:
            value = await client.get(key)
        found[name] = value
    return found
