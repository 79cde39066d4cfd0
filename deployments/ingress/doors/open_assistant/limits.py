"""How many answers a user may ask for in a while (contract A.4, "Rate limit")."""

from __future__ import annotations

import math

from deployments.ingress.doors.open_assistant.errors import Refused
from pipeline.policy import Charge, Entity, RateLimit, Scope
from pipeline.store.tables import PolicyStore


class AnswerLimit:
    def __init__(self, policies: PolicyStore, *, most: int, window_s: int) -> None:
        """``most``: 0 for any number."""
        self._policies = policies
        self._limit = RateLimit(
            max_requests=most, time_window=f"{window_s}s", window_s=window_s, entity=Entity.USER, scope=Scope.ENDPOINT
        )

    async def count(self, user_id: str) -> None:
        """Count a request, whatever becomes of it. Raises Refused when there were as many as may be."""
        if not self._limit.max_requests:
            return
        endpoint = "/chats/{chat_id}/assistant_message"
        charge = Charge(counter=f"open-assistant/{user_id}", endpoint=endpoint, limit=self._limit)
        if (refusal := await self._policies.admit([charge])) is not None:
            _, wait_s = refusal
            words = f"Too Many Requests. Retry After {math.ceil(wait_s)} seconds."
            raise Refused(429, words, retry_after_s=wait_s)
