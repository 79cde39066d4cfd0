"""One run: a workload, one fault in the middle of it, the drain, the check."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.checker import Expectations, Finals, Violation, check
from tests.chaos.client import Caller, User, register
from tests.chaos.dump import TERMINAL, Dump, StoreView
from tests.chaos.faults import POLL_S, FaultKind, Nemesis
from tests.chaos.history import History, Kind, Outcome
from tests.chaos.serve_status import ServeWatch
from tests.chaos.workload import Maker, Workload
from tests.service import Service

#: Users of a run; the last one probes.
USERS = 4
#: Time for the readers to have caught up after that, and for the replicas to have told of their permits, seconds.
SETTLE_S = 20.0
#: The doors are probed for so long after a fault at least, seconds.
PROBE_S = 3.0
#: Those that stay shut are knocked at for so long, seconds.
LONGEST_PROBE_S = 30.0
NAMESPACE = "ps"

EXPECTED: Mapping[FaultKind, Expectations] = {
    FaultKind.LLM_REPLICA: Expectations(),
    FaultKind.ROUTER: Expectations(),
    FaultKind.LEDGER: Expectations(),
    FaultKind.FREEZE: Expectations(least_stale=1),
    FaultKind.ENGINE_CORE: Expectations(recovery_s=60),
    FaultKind.LLM_AND_ROUTERS: Expectations(recovery_s=30),
    # Calls that were with the dead one break off, and for a moment its proxy still sends it new ones.
    FaultKind.INGRESS: Expectations(doors_open_after_s=5),
    FaultKind.PROXY: Expectations(doors_open_after_s=10),
    # F11: 5 s after the store is back, which takes the launcher about one.
    FaultKind.STORE: Expectations(doors_open_after_s=6),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """How much a run asks for."""

    threads: int = 8
    prompts: int = 4
    scripted: bool = True
    answer_tokens: int | None = None
    cancel_share: float = 0.2
    #: Time for every prompt to end once its outcome is known, seconds: a wobbly one may be in its third retry.
    drain_s: float = 60.0
    sync_share: float = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One run, checked."""

    kind: FaultKind
    seed: int
    history: History
    dump: Dump
    stale_rejected: int
    violations: list[Violation]
    seconds: float


class Chaos:
    """Runs against one running service."""

    def __init__(self, service: Service, model_id: str) -> None:
        self._service = service
        self._serve = ServeWatch(service.record.ray_address)
        self._view = StoreView(service.record.redis_url, NAMESPACE, model_id)
        self._users = register(service.url, USERS)
        self._census: dict[FaultKind, int] | None = None

    def run(self, kind: FaultKind, seed: int, load: Load | None = None, expected: Expectations | None = None) -> Result:
        """One fault under load. Leaves the service whole, unless a violation shows that it is not."""
        return asyncio.run(self._run(kind, seed, load or Load(), expected or EXPECTED[kind]))

    async def _run(self, kind: FaultKind, seed: int, load: Load, expected: Expectations) -> Result:
        began = time.monotonic()
        # The fault's name too: ids come from here, and two runs on one service must not share them.
        rng = random.Random(f"{kind.name} {seed}")
        history = History(seed=seed)
        users = [User(self._service.url, user_id, token) for user_id, token in self._users]
        maker = Maker(rng, scripted=load.scripted, answer_tokens=load.answer_tokens)
        workload = Workload(users, history, self._view, maker, rng)
        nemesis = Nemesis(self._service, self._serve, self._view, rng, history, patience_s=expected.recovery_s + 5)
        if self._census is None:
            await self._warm_up(users, maker)
            self._census = nemesis.census()
        stale_before = self._view.queue().stale_rejected
        try:
            workload.start(
                threads=load.threads,
                prompts=load.prompts,
                sync_share=load.sync_share,
                cancel_share=load.cancel_share,
            )
            await asyncio.sleep(rng.uniform(0.3, 2.5))
            await self._strike(kind, nemesis, workload)
            await workload.finish()
            await self._drain(history, load.drain_s)
            await self._settle(workload, history)
            answers = await self._ask_again(users, history)
        finally:
            await workload.stop_reading()
            for user in users:
                await user.close()
        dump = self._dump(history)
        stale = dump.queue.stale_rejected - stale_before
        violations = check(history, dump, Finals(answers=answers, stale_rejected=stale), expected)
        if not violations:
            await nemesis.whole(self._census)
        return Result(
            kind=kind,
            seed=seed,
            history=history,
            dump=dump,
            stale_rejected=stale,
            violations=violations,
            seconds=time.monotonic() - began,
        )

    async def _warm_up(self, users: list[User], maker: Maker) -> None:
        """The first prompt of a service opens its connections; that is not a fault's cost."""
        workload = Workload(users, History(seed=0), self._view, maker, random.Random(0))
        await workload.probe_next_token(time.monotonic())
        await workload.finish()
        await workload.stop_reading()

    async def _strike(self, kind: FaultKind, nemesis: Nemesis, workload: Workload) -> None:
        """The fault, and the probes from the moment it strikes until what it hit has recovered."""
        striking = asyncio.create_task(nemesis.strike(kind))
        struck = asyncio.create_task(nemesis.struck.wait())
        await asyncio.wait({striking, struck}, return_when=asyncio.FIRST_COMPLETED)
        if not struck.done():
            struck.cancel()
            await striking  # It failed before it struck, and says why.
        at = nemesis.struck_at

        def over() -> bool:
            now = time.monotonic()
            return striking.done() and now > at + PROBE_S and (workload.doors_work(at) or now > at + LONGEST_PROBE_S)

        probes = [
            asyncio.create_task(workload.probe_next_token(at)),
            asyncio.create_task(workload.probe_doors(over)),
        ]
        try:
            await asyncio.gather(striking, *probes)
        finally:
            for task in probes:
                task.cancel()

    async def _drain(self, history: History, drain_s: float) -> None:
        """Wait until every prompt has ended and the queue is empty; the checker names what has not."""
        deadline = time.monotonic() + drain_s
        while time.monotonic() < deadline:
            states = self._view.statuses(self._refs(history))
            queue = self._view.queue()
            if all(status in TERMINAL for status, _, _ in states.values()) and not (queue.leases or queue.waiting):
                return
            await asyncio.sleep(POLL_S * 5)

    async def _settle(self, workload: Workload, history: History) -> None:
        """Let the readers catch up with the end of their threads, and the replicas tell that no permit is in use."""
        ends: dict[str, str] = {}
        dump = self._dump(history)
        for prompt in sorted(dump.prompts.values(), key=lambda prompt: prompt.place):
            ends[prompt.thread] = f"{prompt.place}-{prompt.entries}"
        waits = [reader.wait_for(ends[reader.thread]) for reader in workload.readers if reader.thread in ends]
        try:
            async with asyncio.timeout(SETTLE_S):
                await asyncio.gather(*waits)
                while any(self._view.queue().permits_used.values()):  # noqa: ASYNC110 - the store rings no bell for it
                    await asyncio.sleep(POLL_S * 5)
        except TimeoutError:
            return  # The checker says who has not.

    async def _ask_again(self, users: list[User], history: History) -> dict[str, str]:
        """The answer of every completed prompt, as the service tells it when the prompt is submitted once more (R7)."""
        again = History(seed=history.seed)
        callers = {user.id: Caller(user, again) for user in users}
        completed = [p.id for p in self._dump(history).prompts.values() if p.status == "completed"]
        limit = asyncio.Semaphore(8)

        async def ask(prompt_id: str) -> None:
            async with limit:
                asked = history.asked[prompt_id]
                await callers[asked.user].submit_and_wait(asked)

        await asyncio.gather(*(ask(prompt_id) for prompt_id in completed))
        history.sightings |= again.sightings
        return {
            o.prompt: o.answer
            for o in again.operations
            if o.kind is Kind.SUBMIT_SYNC and o.outcome is Outcome.OK and o.answer is not None
        }

    def _dump(self, history: History) -> Dump:
        return self._view.dump(self._refs(history))

    def _refs(self, history: History) -> list[str]:
        return [f"{asked.user}/{asked.id}" for asked in history.asked.values()]

    def close(self) -> None:
        self._view.close()
        self._serve.close()
