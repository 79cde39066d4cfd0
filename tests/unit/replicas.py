"""One replica in memory: an ``AttemptRunner`` on a ``MemoryAttempts``, and engines for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from deployments.engines.scripted import ScriptedEngine, ScriptedRenderer, expected_answer
from deployments.replica.attempts import AttemptRunner, Outcome
from deployments.replica.text_answers import TextAnswers
from deployments.settings import ModelSpec
from deployments.tasks import Supervisor
from pipeline.delta import Delta
from pipeline.engine import Engine, SamplingParameters, TextRequest
from tests.unit.attempts_in_memory import MemoryAttempts, StoredPrompt

CANARY = "canary-in-the-prompt"
PROMPT = ScriptedRenderer().render_text(f"Tell me about the {CANARY}")
GREEDY = SamplingParameters(max_tokens=40, temperature=0)
ANSWER, _ = expected_answer(PROMPT, GREEDY)


def prompt(**changes: Any) -> StoredPrompt:
    return StoredPrompt(**{"prompt_token_ids": PROMPT, "sampling": GREEDY, **changes})


def scripted(**options: Any) -> ScriptedEngine:
    return ScriptedEngine(ModelSpec(id="m", source="none", engine="scripted", engine_args={"step_s": 0, **options}))


class HandDriven:
    """An engine that yields what a test puts into it; an exception is raised."""

    fingerprint = "hand"

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self.requests: list[TextRequest] = []
        self.started = asyncio.Event()
        self.closed = asyncio.Event()

    async def generate(self, request: TextRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        self.started.set()
        try:
            while True:
                step = await self.steps.get()
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.closed.set()


@dataclass
class Replica:
    store: MemoryAttempts
    runner: AttemptRunner
    deaths: list[str] = field(default_factory=list)

    def run(self, ref: str = "a", fence: int = 1, *, alone: bool = False) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.runner.run(ref, fence, alone))


NewReplica = Callable[..., Replica]


def make_replica(
    supervisor: Supervisor,
    engine: Engine | HandDriven,
    *,
    permits: int = 8,
    lease_s: float = 10,
    histories: Any = None,
    **prompts: StoredPrompt,
) -> Replica:
    store = MemoryAttempts(**(prompts or {"a": prompt()}))
    store.replicas["replica"] = permits
    deaths: list[str] = []
    runner = AttemptRunner(
        store=store,  # type: ignore[arg-type]
        work=TextAnswers(store=store, engine=engine, histories=histories, model_id="m"),  # type: ignore[arg-type]
        model_id="m",
        replica="replica",
        node="node",
        permits=permits,
        lease_s=lease_s,
        supervisor=supervisor,
        on_engine_death=lambda: deaths.append("dead"),
    )
    return Replica(store, runner, deaths)


async def within(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, 10)
