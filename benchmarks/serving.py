"""One round of one system: start, first answer, one client, 8 and 32 streams, accepts, memory."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import processes
from benchmarks.clients import Answer, Client, PromptSvcClient, session
from benchmarks.systems import Running, System, model_dir
from benchmarks.workload import MAX_TOKENS, count_tokens, prompts

#: Prompts that accepts_per_s is measured with, and how many are under way at a time.
ACCEPTS, ACCEPT_CONCURRENCY = 300, 32


@dataclass(kw_only=True)
class Cell:
    """What one round of one system gave. None: not measured."""

    ready_s: float | None = None
    #: One per request.
    ttft_ms: list[float] = field(default_factory=list)
    tokens_per_s: dict[int, float] = field(default_factory=dict)
    #: Time to the first token with that many streams, p50.
    ttft_loaded_ms: dict[int, float] = field(default_factory=dict)
    accepts_per_s: float | None = None
    rss_mb: float | None = None
    memory_mb: dict[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is asked in a round."""

    requests: int = 20
    streams: tuple[int, ...] = (8, 32)
    max_tokens: int = MAX_TOKENS
    start_timeout_s: float = 150.0
    measure_timeout_s: float = 180.0


def measure(system: System, plan: Plan, logs: Path) -> Cell:
    """Start the system, measure, stop it. What goes wrong is in the cell; what was measured before stays."""
    cell = Cell()
    running = Running(system, logs)
    try:
        asyncio.run(_measure(running, plan, cell))
    except Exception as error:  # The other systems must still have their turn.
        cell.error = f"{type(error).__name__}: {error}"
    finally:
        running.stop()
    return cell


async def _measure(running: Running, plan: Plan, cell: Cell) -> None:
    async with session(running.url) as http:
        client = running.system.client(http, running.password)
        began = time.perf_counter()
        running.start()
        await running.first_answer(client, plan.start_timeout_s)
        cell.ready_s = time.perf_counter() - began
        async with asyncio.timeout(plan.measure_timeout_s):
            await one_client(client, prompts(3), max_tokens=8)  # warms every path, and is not counted
            answers = await one_client(client, prompts(plan.requests), max_tokens=8)
            cell.ttft_ms = [answer.ttft_ms for answer in answers]
            for streams in plan.streams:
                waves = 2 if streams < 16 else 1
                answers = await concurrently(client, streams, waves, plan.max_tokens)
                took = max(a.last for a in answers) - min(a.asked for a in answers)
                cell.tokens_per_s[streams] = count_tokens(model_dir(), [a.text for a in answers]) / took
                cell.ttft_loaded_ms[streams] = sorted(a.ttft_ms for a in answers)[len(answers) // 2]
            cell.memory_mb = processes.memory_mb()
            cell.rss_mb = sum(cell.memory_mb.values())
            if isinstance(client, PromptSvcClient):
                cell.accepts_per_s = await accepts(client)
            await client.clear()


async def one_client(client: Client, texts: list[str], max_tokens: int) -> list[Answer]:
    """One request after the other."""
    answers = []
    for text in texts:
        async with client.conversation() as ask:
            answers.append(await ask(text, max_tokens))
    return answers


async def concurrently(client: Client, streams: int, waves: int, max_tokens: int) -> list[Answer]:
    """``streams`` conversations at once, each asking ``waves`` times; all are open before the first asks."""
    texts = prompts(streams * waves)
    async with AsyncExitStack() as stack:
        asks = await asyncio.gather(*(stack.enter_async_context(client.conversation()) for _ in range(streams)))

        async def talk(number: int) -> list[Answer]:
            return [await asks[number](text, max_tokens) for text in texts[number::streams]]

        answers = await asyncio.gather(*(talk(number) for number in range(streams)))
    return [answer for talked in answers for answer in talked]


async def accepts(client: PromptSvcClient) -> float:
    """Async submissions per second, while the model works on those that came before."""
    limit = asyncio.Semaphore(ACCEPT_CONCURRENCY)

    async def submit(text: str) -> None:
        async with limit:
            await client.submit(text, max_tokens=1)

    began = time.perf_counter()
    await asyncio.gather(*(submit(text) for text in prompts(ACCEPTS)))
    return ACCEPTS / (time.perf_counter() - began)
