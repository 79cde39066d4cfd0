"""One queue on a real store, and a replica of text answers for it: what tests of single transitions begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from deployments.replica.attempts import AttemptRunner
from deployments.replica.text_answers import TextAnswers
from deployments.tasks import Supervisor
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from tests.unit.replicas import HandDriven

#: Longer than any test, seconds.
LONG_S = 1000.0


@dataclass
class QueueStore:
    """Tests add what they say with it."""

    client: Redis
    keys: Keys
    prompts: PromptStore
    queue: ModelQueue
    attempts: AttemptStore

    @classmethod
    def on(cls, client: Redis, model_id: str) -> Self:
        keys = Keys("test")
        queue, attempts = ModelQueue(client, keys, model_id), AttemptStore(client, keys)
        return cls(client, keys, PromptStore(client, keys), queue, attempts)


def text_runner(
    attempts: AttemptStore, engine: HandDriven, supervisor: Supervisor, *, model_id: str, **options: Any
) -> AttemptRunner:
    """The replica r1 on node n1, with four permits."""
    histories: Any = None
    return AttemptRunner(
        store=attempts,
        work=TextAnswers(store=attempts, engine=engine, histories=histories, model_id=model_id),  # type: ignore[arg-type]
        model_id=model_id,
        replica="r1",
        node="n1",
        permits=4,
        lease_s=LONG_S,
        supervisor=supervisor,
        on_engine_death=lambda: None,
        **options,
    )
