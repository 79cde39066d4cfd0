"""Texts generated while their caller waits: begun together or not at all, cancelled when the caller goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from deployments.ingress.doors.llm_inference.requests import InvalidDataFormat, Wanted
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.tasks import Supervisor
from pipeline.delta import Delta, DeltaKind, FinishReason
from pipeline.errors import ClientError, NotFound, ServerError, StoreUnavailable
from pipeline.ids import new_id
from pipeline.prompt import NewPrompt, Prompt
from pipeline.store.logs import LogEntry
from pipeline.submission import PromptSubmission

logger = logging.getLogger("ray.serve")

#: How often, and how far apart (seconds), a cancellation is tried that the store did not take.
_CANCEL_TRIES, _CANCEL_PAUSE_S = 5, 1.0


class GenerationFailed(ServerError):
    """The generation failed"""


class NotInTime(ServerError):
    """Not finished in time, so it was cancelled"""

    status = 503
    retry_after_s = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    text: str
    #: Whether the length limit ended it.
    is_truncated: bool


def words(delta: Delta) -> str:
    """What of a delta belongs to the text."""
    return delta.text if delta.kind in (DeltaKind.CONTENT, DeltaKind.END) else ""


class Generator:
    """Submits and follows prompts of callers who wait for them."""

    def __init__(self, service: PromptService, threads: ThreadReader, supervisor: Supervisor) -> None:
        self._service = service
        self._threads = threads
        self._supervisor = supervisor

    @asynccontextmanager
    async def begun(self, user_id: str, wanted: Sequence[Wanted]) -> AsyncIterator[list[Prompt]]:
        """Accepted prompts, in order. Whatever has not ended when this is left is cancelled: nobody could fetch it.

        Each is a prompt of its own under an id made from the caller's, so that the same id in a later request is generated anew.

        Raises:
            ClientError: one of them cannot be run, so none is.
            StoreUnavailable: none goes on.
        """
        prepared = [await self._prepare(user_id, index, one) for index, one in enumerate(wanted)]
        try:
            results = await asyncio.gather(*(self._service.accept(new) for new in prepared), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            yield [result.prompt for result in results if not isinstance(result, BaseException)]
        finally:
            # Beside the request, which may be cancelled itself.
            ids = [new.id for new in prepared]
            self._supervisor.spawn(self._cancel(user_id, ids), name="cancel what nobody waits for")

    async def _prepare(self, user_id: str, index: int, one: Wanted) -> NewPrompt:
        submission = PromptSubmission(prompt=one.prompt, id=new_id(f"gen-{one.id}"), sampling=one.sampling, sync=True)
        try:
            return await self._service.prepare(user_id, submission)
        except ClientError as error:
            raise InvalidDataFormat(error, f"prompts.{index}." if one.is_one_of_several else "") from None

    async def deltas(self, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """What is generated, as it comes, up to and with the end.

        Raises:
            GenerationFailed: it failed, or somebody cancelled or erased it.
        """
        entries: AsyncGenerator[LogEntry, None] = self._threads.answer(prompt)
        async with aclosing(entries):
            async for entry in entries:
                if entry.delta.finish_reason in (FinishReason.ERROR, FinishReason.CANCELED):
                    raise GenerationFailed(f"The generation failed: {entry.delta.error or entry.delta.finish_reason}")
                yield entry.delta
                if entry.delta.kind is DeltaKind.END:
                    return
        raise GenerationFailed

    async def whole(self, prompt: Prompt) -> Generated:
        """All of it. Raises as ``deltas``."""
        parts: list[str] = []
        reason: FinishReason | None = None
        async with aclosing(self.deltas(prompt)) as deltas:
            async for delta in deltas:
                if delta.kind is DeltaKind.RESTART:
                    parts.clear()
                parts.append(words(delta))
                reason = delta.finish_reason
        return Generated(text="".join(parts), is_truncated=reason is FinishReason.LENGTH)

    async def _cancel(self, user_id: str, ids: Sequence[str]) -> None:
        """Cancel those that have not ended."""
        for attempt in range(_CANCEL_TRIES):
            try:
                for prompt_id in ids:
                    try:
                        await self._service.cancel(user_id, prompt_id)
                    except NotFound:
                        continue  # it was not accepted, or is erased
                return
            except StoreUnavailable:
                if attempt == _CANCEL_TRIES - 1:
                    logger.warning("what nobody waits for could not be cancelled, it goes on to its end")
                    return
                await asyncio.sleep(_CANCEL_PAUSE_S)
