"""Streamed replies: ``data:`` frames without ids, comments while nothing comes (contract §4.1, points 1 and 2)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from deployments.ingress.doors.openai.calls import Begun, Calls, merged
from deployments.ingress.doors.openai.errors import OpenAiError, error_object
from deployments.ingress.doors.openai.wire import Chunks
from deployments.ingress.sse import STALLED_S, one_line
from pipeline.delta import DeltaKind, FinishReason
from pipeline.errors import PromptSvcError, StoreUnavailable

logger = logging.getLogger("ray.serve")

DONE = b"data: [DONE]\n\n"
#: A stream is broken off, with an error, after this many bytes: Serve's proxy queues without bound for a slow reader. Answers of
#: a whole context with twenty log probabilities for each token stay below it.
MOST_BYTES = 64 * 1024 * 1024


class EventStream(EventSourceResponse):
    """A response of frames. Its headers go out at once, and comments keep it open: no ids, no ``retry``, no events without data,
    all of which the SDK takes for an event that it cannot read."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        heartbeat_s: float,
        headers: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        """
        Args:
            on_end: called once it is over, however: also if the client went away before the first frame was asked for.
        """
        super().__init__(
            frames,
            sep="\n",
            ping=heartbeat_s,
            ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
            send_timeout=STALLED_S,
            headers={**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


def frame(data: Any, event: str = "") -> bytes:
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + one_line(orjson.dumps(data)) + b"\n\n"


def error_frame(error: PromptSvcError) -> bytes:
    """What the SDK raises as an ``APIError``; a stream that only ends would look whole."""
    return frame({"error": error_object(error)})


class CompletionStream:
    """The frames of a chat or text completion, to ``[DONE]`` or to an error."""

    def __init__(self, calls: Calls, begun: Begun) -> None:
        self._calls = calls
        self._begun = begun
        self._chunks = Chunks(begun.head, include_usage=begun.call.include_usage, prompts=begun.texts)
        self._is_whole = False

    def close(self) -> None:
        """It is over. What the client did not get to the end of, it waits for no more."""
        if not self._is_whole:
            self._calls.give_up(self._begun)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        sent = 0
        try:
            async with aclosing(self._objects()) as found:
                async for chunk in found:
                    data = frame(chunk)
                    sent += len(data)
                    if sent > MOST_BYTES:
                        raise OpenAiError(f"the stream is longer than {MOST_BYTES} bytes", code="too_long", status=500)
                    yield data
        except PromptSvcError as error:
            yield error_frame(error)
        except (RedisError, OSError) as error:
            logger.warning("a stream broke off: store: %s", type(error).__name__)
            yield error_frame(StoreUnavailable())
        else:
            self._is_whole = True
            yield DONE

    async def _objects(self) -> AsyncGenerator[Mapping[str, Any], None]:
        begun, chunks = self._begun, self._chunks
        reasons: list[FinishReason | None] = [None] * len(begun.prompts)
        message_ids = [""] * len(begun.prompts)
        async with aclosing(merged([self._calls.follow(prompt) for prompt in begun.prompts])) as entries:
            async for index, entry in entries:
                if entry is None:
                    check_answered(reasons[index], "")
                    continue
                if entry.delta.kind is DeltaKind.RESTART:
                    if chunks.has_begun(index):
                        raise AnswerFailed("The answer had to begin again; please ask again", "restarted")
                    continue
                if entry.delta.kind is DeltaKind.END:
                    check_answered(entry.delta.finish_reason, entry.delta.error or "")
                    reasons[index], message_ids[index] = entry.delta.finish_reason, entry.message_id
                for chunk in chunks.of(index, entry.delta):
                    yield chunk
        if begun.call.include_usage:
            yield chunks.usage(await self._calls.usage(begun, message_ids))


class AnswerFailed(OpenAiError):
    """A prompt ended without an answer."""

    def __init__(self, message: str, code: str) -> None:
        # Sent again it would be the same prompt, which has ended.
        super().__init__(message, code=code, status=500, retry=False)


def check_answered(reason: FinishReason | None, why: str) -> None:
    """Raises AnswerFailed unless a prompt that ended so has an answer. No reason: it did not end, it is gone."""
    if reason is FinishReason.CANCELED:
        raise AnswerFailed("The request was cancelled", "cancelled")
    if reason is FinishReason.ERROR:
        raise AnswerFailed(why or "The request failed", "generation_failed")
    if reason is None:
        raise AnswerFailed("The prompt was removed", "removed")
