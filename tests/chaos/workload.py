"""A seeded workload: users, threads with several prompts each, readers, cancels, and the probes during a fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from deployments.engines.scripted import ScriptedRenderer, expected_answer
from pipeline.engine import SamplingParameters
from tests.chaos.client import PAUSE_S, Caller, Reader, User
from tests.chaos.config import WOBBLY
from tests.chaos.dump import StoreView
from tests.chaos.history import Asked, History, Kind, Outcome, Recovery

#: Submissions are spread over so many seconds.
SPREAD_S = 3.0
#: A submission is tried for so long, seconds.
GIVE_UP_S = 150.0
#: Retries a prompt may have: more than the wobbly ones need with a replica killed in between.
MAX_RETRIES = 6
_STOPS = ([" the"], ["café"], ["🚀"], ["nothing like this"])

Body = dict[str, object]


class Maker:
    """Makes prompts whose answers are known, or, for a real model, not."""

    def __init__(self, rng: random.Random, *, scripted: bool, answer_tokens: int | None = None) -> None:
        self._rng = rng
        self._scripted = scripted
        self._answer_tokens = answer_tokens

    def thread_id(self) -> str:
        return f"thread-{self._rng.randbytes(6).hex()}"

    def prompt(self, user: str, thread: str, *, short: bool = False, wobbly: bool = False) -> Asked:
        canary = f"canary-{self._rng.randbytes(6).hex()}"
        sampling = self._sampling(short=short)
        if self._scripted:
            text = f"{canary} {WOBBLY if wobbly else 'steady'}"
            # Ids of the caller's choice, so that an unknown outcome can be looked up later.
            wire = {"maxTokens": sampling.max_tokens, "stop": list(sampling.stop), "seed": sampling.seed}
            body_parameters: Body = {key: value for key, value in wire.items() if value not in (None, [])}
        else:
            text = f"Write a few sentences about the number {self._rng.randrange(1000)}, then this word: {canary}"
            body_parameters = {"maxTokens": 8 if short else 48, "temperature": 0}
        return Asked(
            id=f"{canary}-id",
            user=user,
            thread=thread,
            text=text,
            canary=canary,
            max_retries=MAX_RETRIES,
            expected=self._expected(text, sampling) if self._scripted else None,
            body={
                "id": f"{canary}-id",
                "threadId": thread,
                "prompt": text,
                "maxRetries": MAX_RETRIES,
                "parameters": {"textToText": body_parameters},
            },
        )

    def _sampling(self, *, short: bool) -> SamplingParameters:
        rng = self._rng
        if short:
            return SamplingParameters(max_tokens=4)
        return SamplingParameters(
            max_tokens=rng.randint(5, 40) if rng.random() < 0.2 else 512,
            stop=tuple(rng.choice(_STOPS)) if rng.random() < 0.3 else (),
            seed=rng.randrange(2**31) if rng.random() < 0.3 else None,
        )

    def _expected(self, text: str, sampling: SamplingParameters) -> str:
        token_ids = ScriptedRenderer().render_chat([{"role": "user", "content": text}])
        return expected_answer(token_ids, sampling, answer_tokens=self._answer_tokens)[0]


class Workload:
    """What the users of one run do. ``start`` begins it, ``finish`` waits until every submission's outcome is known."""

    def __init__(self, users: list[User], history: History, view: StoreView, maker: Maker, rng: random.Random) -> None:
        """
        Args:
            users: the last one only probes.
        """
        self._users = users[:-1]
        self._prober = users[-1]
        self._history = history
        self._view = view
        self._maker = maker
        self._rng = rng
        self._began = time.monotonic()
        self._work: list[asyncio.Task[Any]] = []
        self._reading: list[asyncio.Task[None]] = []
        self.readers: list[Reader] = []

    def start(self, *, threads: int, prompts: int, sync_share: float = 0.25, cancel_share: float = 0.2) -> None:
        """Begin with that many threads of that many prompts each."""
        rng = self._rng
        self._began = time.monotonic()
        for number in range(threads):
            user = self._users[number % len(self._users)]
            thread = self._maker.thread_id()
            self.read(user, thread, f"early-{number}", from_beginning=True, cut=rng.random() < 0.5)
            if rng.random() < 0.6:
                self._spawn(self._read_later(user, thread, f"late-{number}", rng.uniform(0.2, SPREAD_S)))
            moments = sorted(rng.uniform(0, SPREAD_S) for _ in range(prompts))
            for index, moment in enumerate(moments):
                asked = self._remember(self._maker.prompt(user.id, thread, wobbly=number == index == 0))
                sync = rng.random() < sync_share
                again = rng.random() < 0.15
                cancel_after = rng.uniform(0, 2)
                if rng.random() < cancel_share:
                    self._spawn(self._submit_and_cancel(user, asked, moment, cancel_after))
                else:
                    self._spawn(self._submit(user, asked, moment, sync=sync, copies=3 if again else 1))

    def read(self, user: User, thread: str, name: str, *, from_beginning: bool, cut: bool = False) -> Reader:
        reader = Reader(name, user, thread, self._history, from_beginning=from_beginning)
        if cut:
            reader.cut_after = self._rng.randint(2, 30)
        self.readers.append(reader)
        self._reading.append(asyncio.create_task(reader.run()))
        return reader

    async def finish(self) -> None:
        await asyncio.gather(*self._work)

    async def stop_reading(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work.append(asyncio.create_task(work))

    def _remember(self, asked: Asked) -> Asked:
        self._history.asked[asked.id] = asked
        return asked

    async def _at(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, self._began + moment - time.monotonic()))

    async def _submit(self, user: User, asked: Asked, moment: float, *, sync: bool, copies: int) -> None:
        caller = Caller(user, self._history)
        await self._at(moment)
        deadline = time.monotonic() + GIVE_UP_S
        await asyncio.gather(*(caller.submit_until_known(asked, sync=sync, deadline=deadline) for _ in range(copies)))

    async def _submit_and_cancel(self, user: User, asked: Asked, moment: float, pause_s: float) -> None:
        """Cancel once, a second time would erase what the first one ended; and only when no submission is under way any
        more, which would bring back what was erased."""
        await self._submit(user, asked, moment, sync=False, copies=1)
        await asyncio.sleep(pause_s)
        ref = f"{user.id}/{asked.id}"
        await Caller(user, self._history).cancel(asked.id, lambda: self._view.entries(ref))

    async def _read_later(self, user: User, thread: str, name: str, moment: float) -> None:
        await self._at(moment)
        self.read(user, thread, name, from_beginning=False)

    async def probe_next_token(self, since: float) -> None:
        """Submit one prompt and note how long after ``since`` its first event comes."""
        thread = self._maker.thread_id()
        asked = self._remember(self._maker.prompt(self._prober.id, thread, short=True))
        reader = self.read(self._prober, thread, f"probe-{asked.canary}", from_beginning=True)
        caller = Caller(self._prober, self._history)
        self._spawn(caller.submit_until_known(asked, sync=False, deadline=time.monotonic() + GIVE_UP_S))
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.news.wait(), GIVE_UP_S)
        self._history.next_tokens.append(Recovery(what=asked.id, seconds=time.monotonic() - since))

    def doors_work(self, since: float) -> bool:
        """Whether every kind of call has succeeded since then."""
        operations = [o for o in self._history.operations if o.began >= since and o.outcome is Outcome.OK]
        return {o.kind for o in operations} >= set(Kind) - {Kind.SUBMIT_SYNC}

    async def probe_doors(self, until: Callable[[], bool]) -> None:
        """Accept, cancel, list, get and subscribe, over and over, until told otherwise (D4)."""
        caller = Caller(self._prober, self._history)
        thread = self._maker.thread_id()
        while not until():
            asked = self._remember(self._maker.prompt(self._prober.id, thread, short=True))
            ref = f"{self._prober.id}/{asked.id}"
            accepted = await caller.submit(asked)
            calls: list[Awaitable[Outcome]] = [
                caller.list_thread(thread),
                caller.get(asked.id),
                caller.subscribe(thread),
            ]
            if accepted is Outcome.OK:
                calls.append(caller.cancel(asked.id, lambda ref=ref: self._view.entries(ref)))  # type: ignore[misc]
            await asyncio.gather(*calls)
            await asyncio.sleep(PAUSE_S)
