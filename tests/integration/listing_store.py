"""A store with prompts in every state, and a client that reads listings page by page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis

from deployments.ingress import wire
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.prompt import NewPrompt, Prompt
from pipeline.query import parse_query
from pipeline.store.attempts import AttemptStore
from pipeline.store.keys import Keys
from pipeline.store.listing import Listing
from pipeline.store.page import Page
from pipeline.store.prompts import PromptStore
from pipeline.store.queue import ModelQueue
from pipeline.store.scan import Bounds

MODEL = "m"
USERS = ("ann", "bob", "cyd")
END = Delta(kind=DeltaKind.END, finish_reason=FinishReason.STOP)


class Store:
    """A store, and what the product does to it."""

    def __init__(self, url: str, namespace: str = "list") -> None:
        self.client = Redis.from_url(url)
        self.keys = Keys(namespace)
        self.prompts = PromptStore(self.client, self.keys)
        self.attempts = AttemptStore(self.client, self.keys)
        self.queue = ModelQueue(self.client, self.keys, MODEL)

    def listing(self, **bounds: Any) -> Listing:
        return Listing(self.client, self.keys, self.prompts, time_of=wire.timestamp, bounds=Bounds(**bounds))

    async def accept(self, user: str, prompt_id: str, thread: str = "t", **fields: Any) -> Prompt:
        new = NewPrompt(
            id=prompt_id,
            user_id=user,
            thread_id=thread,
            model_id=MODEL,
            prompt=fields.pop("prompt", f"words of {user}"),
            prompt_token_ids=(1,),
            **fields,
        )
        return (await self.prompts.accept(new)).prompt

    async def run(self, most: int, outcome: str = "finish") -> int:
        """Grant that many prompts, oldest first, and bring each to an outcome."""
        await self.attempts.register(MODEL, "r", permits=100_000, node="n", lease_s=1000)
        grants = await self.queue.grant(most, 1000)
        for grant in grants:
            await self.attempts.claim(grant.ref, grant.fence, replica="r", lease_s=1000, fingerprint="f")
            if outcome == "finish":
                message = f"msg-{grant.fence}"
                await self.attempts.finish(
                    grant.ref, grant.fence, message_id=message, text="yes", meta_json="{}", end=END
                )
            elif outcome == "retry":
                await self.attempts.retry_later(grant.ref, grant.fence, error="broken", delay_s=1000)
            elif outcome == "abandon":
                await self.attempts.abandon(grant.ref, grant.fence, error="broken for good")
            elif outcome == "hand back":
                await self.attempts.hand_back(grant.ref, grant.fence, replica="r")
        return len(grants)


def as_seen_by(user: str) -> Any:
    def show(prompt: Prompt) -> Mapping[str, Any]:
        return wire.searched_object(prompt, with_text=prompt.user_id == user)

    return show


async def pages(
    listing: Listing,
    raw: dict[str, Any],
    *,
    user_id: str | None = None,
    show: Any = wire.searched_object,
    between: Callable[[], Awaitable[object]] | None = None,
) -> list[Page]:
    """All pages of a query, each asked for with the cursor of the one before, as a client would; ``between`` two of them
    something else happens."""
    found: list[Page] = []
    after: str | None = None
    for _ in range(1000):
        cursor = {} if after is None else {"afterJson": json.dumps([after])}
        page = await listing.page(parse_query({**raw, **cursor}), user_id=user_id, show=show)
        found.append(page)
        after = page.after
        if after is None:
            return found
        if between is not None:
            await between()
    raise AssertionError("the pages do not end")


def ids(found: list[Page]) -> list[str]:
    return [prompt.id for page in found for prompt in page.prompts]
