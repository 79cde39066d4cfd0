"""Statements run by themselves, and what polls get of them."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from redis.exceptions import RedisError

from deployments.ingress.doors.semoss.chunks import calls_of
from deployments.ingress.doors.semoss.envelopes import Outcome
from deployments.ingress.doors.semoss.sessions import Session
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.tasks import Supervisor
from pipeline.delta import Delta, FinishReason
from pipeline.errors import NotFound
from pipeline.prompt import Prompt
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.messages import MessageStore
from pipeline.store.pixel_jobs import REPLY_S, Channel, Page, PixelJobs, PollUnderWay

#: How often a poll asks again while the word of the one before is on its way to the store, and how long in between, seconds.
_TRIES, _PAUSE_S = 10, 0.01
#: Above every log: a log has at most an entry per token.
MOST_LOGGED = 2_000_000


def new_job_id() -> str:
    """A UUID of version 7 (RFC 9562), in lower case: begins with the time, ends with 74 random bits."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=number))


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """One poll's share of a job. Exactly one of ``keep`` and ``leave`` must be awaited."""

    page: Page
    #: The reply is out: what it holds counts as delivered.
    keep: Callable[[], Awaitable[None]]
    #: The reply holds nothing of it.
    leave: Callable[[], Awaitable[None]]


class JobReader:
    """Reads jobs for those who poll."""

    def __init__(
        self,
        service: PromptService,
        threads: ThreadReader,
        messages: MessageStore,
        jobs: PixelJobs,
        supervisor: Supervisor,
    ) -> None:
        self._service = service
        self._threads = threads
        self._messages = messages
        self._jobs = jobs
        self._supervisor = supervisor

    async def poll(self, session: Session, job_id: str, channel: Channel) -> Poll | None:
        """What is new on the channel, None if the session has no such job.

        Raises:
            PollUnderWay: another poll's reply is on its way, or was lost with its replica a moment ago.
            StoreUnavailable: nothing was taken.
        """
        name = secrets.token_hex(8)
        for attempt in range(_TRIES):
            try:
                with translated_errors():
                    page = await self._jobs.poll(job_id, session=session.digest, channel=channel, poll=name)
                break
            except PollUnderWay:
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(_PAUSE_S)
        if page is None:
            return None

        async def settle(delivered: int) -> None:
            if page.is_claimed:
                # In a task of its own: the client has what it wanted, and may hang up and so cancel the request any moment.
                confirmation = self._confirm(job_id, channel, name, delivered)
                await asyncio.shield(self._supervisor.spawn(confirmation, name="confirm a poll"))

        return Poll(page=page, keep=lambda: settle(page.end), leave=lambda: settle(page.delivered))

    async def _confirm(self, job_id: str, channel: Channel, poll: str, delivered: int) -> None:
        """Within the time that another poll waits for it; after that it would be too late."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REPLY_S
        while True:
            try:
                await self._jobs.confirm(job_id, channel=channel, poll=poll, delivered=delivered)
                return
            except RedisError:
                if loop.time() > deadline:
                    return
                await asyncio.sleep(_PAUSE_S)

    async def wait_for_more(self, session: Session, page: Page, timeout_s: float) -> None:
        """Return when the log has something behind the page, or the time is over."""
        prompt = await self._prompt(session, page.ref) if page.ref else None
        if prompt is None or page.is_last:
            return
        try:
            async with (
                asyncio.timeout(timeout_s),
                aclosing(self._threads.answer(prompt, after=page.end)) as entries,
            ):
                async for _ in entries:
                    return
        except TimeoutError:
            return

    async def usage_meta(self, session: Session, page: Page) -> dict[str, object] | None:
        """What the answer's message says about itself, once the page holds the end of it."""
        if not page.message_id:
            return None
        with translated_errors():
            message = await self._messages.get(session.caller.user_id, page.message_id)
        return dict(message.meta) if message is not None and message.meta else None

    async def written(self, page: Page, most: int) -> list[Delta]:
        """The first ``most`` entries of the log that the page is from."""
        if page.delivered == 0:
            return list(page.deltas[:most])
        with translated_errors():
            return await self._jobs.deltas(page.ref, most)

    async def outcome(self, prompt: Prompt, room_id: str, *, by_code: bool) -> Outcome:
        """What came of a prompt that has ended."""
        if prompt.status is Status.COMPLETED:
            with translated_errors():
                message = await self._messages.get(prompt.user_id, prompt.message_id)
            if message is None:
                return Outcome.error("the answer was deleted")
            calls: list[dict[str, str]] = []
            if (message.meta or {}).get("finishReason") == FinishReason.TOOL_CALLS:
                with translated_errors():
                    calls = calls_of(await self._jobs.deltas(prompt.ref, MOST_LOGGED))
            return Outcome.answer(message, room_id, by_code=by_code, calls=calls)
        if prompt.status is Status.CANCELED:
            return Outcome.error("the job was canceled")
        return Outcome.error(prompt.error or "the model failed")

    async def _prompt(self, session: Session, ref: str) -> Prompt | None:
        user_id = session.caller.user_id
        try:
            prompt, _ = await self._service.read(user_id, ref.removeprefix(f"{user_id}/"))
        except NotFound:
            return None
        return prompt
