"""The faults: which process, when, and what it was doing. Only processes of the service under test are ever touched."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import redis

from deployments.local.processes import ProcessId, wait_gone
from tests.chaos.dump import TERMINAL, StoreView
from tests.chaos.history import Fault, History, Recovery
from tests.chaos.serve_status import ServeWatch
from tests.service import Service

T = TypeVar("T")

#: Between two looks, seconds.
POLL_S = 0.02
#: Longest wait for a fault to take effect, or for what it hit to move on, seconds.
PATIENCE_S = 60.0


class FaultKind(StrEnum):
    """kill -9 of one process, but for the last."""

    LLM_REPLICA = "LLM replica"
    ROUTER = "router"
    LEDGER = "ledger"
    INGRESS = "ingress replica"
    PROXY = "HTTP proxy"
    STORE = "store"
    #: vLLM's child process.
    ENGINE_CORE = "EngineCore"
    #: Not in the matrix: what only time can notice, since nobody is left to tell.
    LLM_AND_ROUTERS = "LLM replica and both routers"
    #: SIGSTOP of an LLM replica until its prompts run elsewhere, then SIGCONT.
    FREEZE = "frozen LLM replica"


_TITLES = {
    FaultKind.LLM_REPLICA: re.compile(r"ray::ServeReplica:prompt-svc:LLM"),
    FaultKind.ROUTER: re.compile(r"ray::ServeReplica:prompt-svc:Router"),
    FaultKind.LEDGER: re.compile(r"ray::PromptLedger"),
    FaultKind.INGRESS: re.compile(r"ray::ServeReplica:prompt-svc:Ingress"),
    FaultKind.PROXY: re.compile(r"ray::ProxyActor"),
    FaultKind.ENGINE_CORE: re.compile(r"VLLM::EngineCore"),
}
#: Faults that hit a model replica and the prompts it holds.
ON_LLM = frozenset({FaultKind.LLM_REPLICA, FaultKind.LLM_AND_ROUTERS, FaultKind.ENGINE_CORE, FaultKind.FREEZE})


class Nemesis:
    """Injects one fault into a running service and watches what it hit recover."""

    def __init__(
        self,
        service: Service,
        serve: ServeWatch,
        view: StoreView,
        rng: random.Random,
        history: History,
        *,
        patience_s: float,
    ) -> None:
        """
        Args:
            patience_s: how long what the fault hit is watched for a sign of life.
        """
        self._patience_s = patience_s
        self._service = service
        self._serve = serve
        self._view = view
        self._rng = rng
        self._history = history
        #: When the fault struck; ``struck`` is set then.
        self.struck_at = 0.0
        self.struck = asyncio.Event()

    async def strike(self, kind: FaultKind) -> Fault:
        """Inject one fault once it means something: an answer is under way where it strikes."""
        if kind in ON_LLM:
            victim, replica = await self._busy_replica(kind)
        else:
            await _until(lambda: any(holder for holder in self._view.running().values()), "a running prompt")
            victim, replica = self._rng.choice(self._find(kind)), ""
        also = self._find(FaultKind.ROUTER) if kind is FaultKind.LLM_AND_ROUTERS else []
        # Before the kill: others take over what it held within milliseconds.
        base = await self._hit(replica) if replica else {}
        self.struck_at = at = time.monotonic()
        for process in (victim, *also):
            os.kill(process.pid, signal.SIGSTOP if kind is FaultKind.FREEZE else signal.SIGKILL)
        self.struck.set()
        if kind is FaultKind.FREEZE:
            await _until(lambda: _state(victim) in "Tt", "the replica to stand still")
        else:
            left = await asyncio.to_thread(wait_gone, [victim, *also], 10)
            assert not left, f"kill -9 did not end {left}"
        if not replica:
            base = await self._hit("")
        fault = Fault(kind=kind.value, victim=str(victim.pid), at=at, hit=tuple(base), lethal=kind in ON_LLM)
        self._history.faults.append(fault)
        if kind is FaultKind.FREEZE:
            await self._thaw_when_superseded(victim, base)
        await self._watch_recovery(base, at, superseded=kind in ON_LLM)
        return fault

    async def whole(self, expected: dict[FaultKind, int]) -> None:
        """Wait until every part of the service is there again: its process, and Serve's and the store's word for it."""

        def complete() -> bool:
            return (
                all(len(self._find(kind)) == count for kind, count in expected.items())
                and len(self._view.replicas()) == expected[FaultKind.LLM_REPLICA]
                and self._serve.ask().whole
            )

        await _until(complete, f"all parts of the service: {expected}", patience_s=180)

    def census(self) -> dict[FaultKind, int]:
        """How many processes of each kind there are."""
        return {kind: len(self._find(kind)) for kind in _TITLES}

    def _find(self, kind: FaultKind) -> list[ProcessId]:
        if kind is FaultKind.STORE:
            store = self._service.record.store
            return [store] if store is not None and store.is_alive else []
        title = _TITLES[FaultKind.LLM_REPLICA if kind not in _TITLES else kind]
        found = [process for process in self._service.processes() if title.match(_title(process))]
        return sorted(found, key=lambda process: process.pid)

    async def _busy_replica(self, kind: FaultKind) -> tuple[ProcessId, str]:
        """A model replica that is in the middle of an answer: at least one token of it is in the log."""

        ids = dict(self._serve.ask().replicas)

        def busy() -> tuple[ProcessId, str] | None:
            running = self._view.running()
            begun = {ref for ref, (_, _, entries) in self._view.statuses(running).items() if entries >= 1}
            holders = {holder for ref, holder in running.items() if ref in begun}
            replicas = self._find(FaultKind.LLM_REPLICA)
            if any(process.pid not in ids for process in replicas):  # started since: after the last fault, say
                ids.update(self._serve.ask().replicas)
            candidates = [(p, r) for p in replicas if (r := ids.get(p.pid, "")) in holders]
            return self._rng.choice(candidates) if candidates else None

        process, replica = await _until(
            busy, "a replica in mid-answer", patience_s=180
        )  # as long as a model takes to load
        if kind is FaultKind.ENGINE_CORE:
            (process,) = self._find(FaultKind.ENGINE_CORE)
        return process, replica

    async def _hit(self, replica: str) -> dict[str, tuple[int, int]]:
        """Fence and log length of the prompts that the dead replica holds; of all running ones when none is meant."""

        def look() -> dict[str, tuple[int, int]] | None:
            try:
                running = self._view.running()
                refs = [ref for ref, holder in running.items() if holder == replica or (holder and not replica)]
                return {ref: (fence, entries) for ref, (_, fence, entries) in self._view.statuses(refs).items()}
            except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
                return None  # the store was the victim

        # No truth value: there may be nothing left that runs.
        deadline = time.monotonic() + PATIENCE_S
        while (found := look()) is None:
            assert time.monotonic() < deadline, "the store did not come back"
            await asyncio.sleep(POLL_S)
        return found

    async def _thaw_when_superseded(self, victim: ProcessId, base: dict[str, tuple[int, int]]) -> None:
        """Let the replica go on the moment every prompt it holds has been granted again, so that its late writes meet
        attempts that are running."""

        def superseded() -> bool:
            now = self._view.statuses(base)
            return all(now[ref][0] in TERMINAL or now[ref][1] > fence for ref, (fence, _) in base.items() if ref in now)

        try:
            await _until(superseded, "the frozen replica's prompts to be granted again")
        finally:
            os.kill(victim.pid, signal.SIGCONT)

    async def _watch_recovery(self, base: dict[str, tuple[int, int]], since: float, *, superseded: bool) -> None:
        """Note when each prompt that was hit gets its next log entry.

        Args:
            superseded: only one of a later attempt counts.
        """
        left = dict(base)
        deadline = time.monotonic() + self._patience_s
        while left and time.monotonic() < deadline:
            try:
                now = self._view.statuses(left)
            except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError):
                now = {}
            seconds = time.monotonic() - since
            for ref, (status, fence, entries) in now.items():
                if superseded and fence == left[ref][0]:
                    # Still the old attempt's, or ended by it just before the fault.
                    left[ref] = fence, entries
                    if status in TERMINAL:
                        del left[ref]
                elif entries > left[ref][1]:
                    del left[ref]
                    if status != "canceled":
                        self._history.recoveries.append(Recovery(what=ref, seconds=seconds))
            await asyncio.sleep(POLL_S)
        # One that was erased meanwhile does not come back; one that is stuck is the checker's to name.


async def _until(condition: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """``tests.waiting.wait_for`` for an event loop that has readers to serve meanwhile."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s} s in vain for {what}")
        await asyncio.sleep(POLL_S)
    return value


def _title(process: ProcessId) -> str:
    """What the process calls itself; empty when it is gone."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _state(process: ProcessId) -> str:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return "X"
