"""What somebody is told whose prompt waits for a model that has no replica yet: that it starts, in a comment on the stream."""

from __future__ import annotations

from collections.abc import Mapping

from redis.asyncio import Redis

from deployments.ingress.model_state import ServeControl, State, model_state
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.keys import Keys
from pipeline.store.queue import ModelQueue

_WORDS = {
    State.STARTING: "is starting",
    State.SCALED_TO_ZERO: "has no replica yet",
    State.FAILED: "has failed; the prompt waits for it",
}


class Notices:
    """Says what a prompt waits for. One look at the prompt; Serve's word is shared by all who ask within a second."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        queues: Mapping[str, ModelQueue],
        deployments: Mapping[str, str],
        serve: ServeControl | None,
    ) -> None:
        """
        Args:
            queues: by model id.
            deployments: names by model id.
        """
        self._deployments = deployments
        self._client = client
        self._keys = keys
        self._queues = queues
        self._serve = serve

    async def of(self, ref: str) -> str | None:
        """A sentence about the model of a prompt that has nothing to show yet; None if the model is there, or nothing is known.

        Raises:
            StoreUnavailable
        """
        with translated_errors():
            status, model = await self._client.hmget(self._keys.prompt(ref), "status", "model")
        if status is None or model is None or status.decode() not in (Status.SCHEDULED, Status.ERRORED):
            return None
        model_id = model.decode()
        queue = self._queues.get(model_id)
        if queue is None or self._serve is None:
            return None
        view = await self._serve.view(self._deployments[model_id])
        with translated_errors():
            depth = await queue.depth()
        words = _WORDS.get(model_state(registered=depth.replicas, view=view).state)
        return f"{model_id} {words}" if words else None
