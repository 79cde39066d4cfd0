"""Prompts as the ingress sees them: accept, read, list, cancel, erase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from pipeline.errors import Conflict, NotFound, StoreFull
from pipeline.prompt import NewPrompt, Prompt, make_ref
from pipeline.states import Status
from pipeline.store.keys import Keys
from pipeline.store.scripts import Scripts

#: A new thread is titled with the beginning of its first prompt (contract 1backend §1.1, behaviour 3).
TITLE_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    prompt: Prompt
    #: False if this id was accepted before; then ``prompt`` is what is stored, and nothing was queued.
    is_new: bool
    #: Where it stands in its queue, see ``PromptStore.queue_position``; None if it does not wait.
    queue_position: int | None = None


class PromptStore:
    """Every method may raise StoreUnavailable's redis causes; see ``connection.translated_errors``."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys.namespace)

    async def accept(self, prompt: NewPrompt) -> Accepted:
        """Store and queue the prompt, its indexes and the user's chat message, in one step.

        Raises:
            Conflict: a chat message that belongs to no prompt has this id; nothing was stored.
            StoreFull: nothing was stored.
        """
        record = prompt.to_record()
        fields = [part for item in record.items() for part in item]
        is_new, *found = await self._scripts.run("accept", prompt.ref, prompt.prompt[:TITLE_CHARACTERS], *fields)
        if is_new == 2:
            raise Conflict("id: a chat message has this id, choose another one for the prompt")
        if is_new == 3:
            raise StoreFull
        raw, position = found
        stored = dict(zip(raw[::2], raw[1::2], strict=True))
        if is_new == 1:
            sent = {name.encode(): v if isinstance(v, bytes) else str(v).encode() for name, v in record.items()}
            stored = {**sent, **stored}
        return Accepted(
            prompt=Prompt.from_record(stored),
            is_new=is_new == 1,
            queue_position=int(position) or None,
        )

    async def queue_position(self, ref: str) -> int | None:
        """Where a waiting prompt stands: 1 goes out next, n after n - 1 others if nothing else arrives. None if it does not wait.

        Exact while at most 32 users wait at its priority and above; with more it is an upper bound. The cost does not grow
        with the number of prompts.
        """
        return int(await self._scripts.run("position", ref)) or None

    async def get(self, user_id: str, prompt_id: str) -> Prompt | None:
        return (await self.get_many([make_ref(user_id, prompt_id)]))[0]

    async def get_many(self, refs: Sequence[str]) -> list[Prompt | None]:
        pipe = self._client.pipeline(transaction=False)
        for ref in refs:
            pipe.hgetall(self._keys.prompt(ref))
        return [Prompt.from_record(record) if record else None for record in await pipe.execute()]

    async def adopt_earlier_layout(self, batch: int = 500) -> int:
        """Index what an earlier version stored; nothing to do on any other store. Returns how many prompts that were."""
        adopted = last = int(await self._scripts.run("adopt", batch))
        while last == batch:
            last = int(await self._scripts.run("adopt", batch))
            adopted += last
        return adopted

    async def cancel(self, ref: str) -> Status:
        """Cancel a prompt that has not ended. Returns the terminal status it has now.

        Raises:
            NotFound: there is no such prompt.
        """
        status, _ = await self._scripts.run("cancel", ref)
        if status == b"missing":
            raise NotFound
        return Status(status.decode())

    async def erase(self, ref: str) -> bool:
        """Remove a finished prompt with its text. False if it has not ended.

        Raises:
            NotFound: there is no such prompt.
        """
        outcome = await self._scripts.run("erase", ref)
        if outcome == b"missing":
            raise NotFound
        return bool(outcome == b"erased")

    async def remove(self, ref: str) -> None:
        """DELETE as DESIGN §5 has it: a waiting or running prompt is cancelled, a finished one erased with its text.

        Raises:
            NotFound: there is no such prompt.
        """
        while not await self.erase(ref):
            # It may end between the two scripts; then it is a finished one.
            if await self.cancel(ref) is Status.CANCELED:
                return
