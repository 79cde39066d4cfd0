"""submit, wait, stream and cancel for callers with a handle: what the HTTP endpoints do, on the same services."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any

import orjson

from deployments.ingress.auth import Permission
from deployments.ingress.body import parse_object
from deployments.ingress.doors.handle.answers import entry_object, error_answer
from deployments.ingress.doors.handle.callers import Callers
from deployments.ingress.prompt_answer import prompt_answer, with_message
from deployments.ingress.prompt_request import parse_prompt_request
from deployments.ingress.service import PromptService
from deployments.ingress.submitter import Submitter
from deployments.ingress.threads import ThreadReader
from deployments.settings import Settings
from pipeline.delta import DeltaKind
from pipeline.errors import InvalidField, Shown, TooLarge, kind_of
from pipeline.store.connection import translated_errors
from pipeline.store.messages import MessageStore

_BODY_RULE = "an object of JSON values, as in the body of POST /prompt-svc/prompt"


class HandleCalls:
    """Answers the calls. Arguments come from another process, perhaps of another version: none is what its type says."""

    def __init__(
        self,
        settings: Settings,
        service: PromptService,
        submitter: Submitter,
        threads: ThreadReader,
        messages: MessageStore,
        callers: Callers,
    ) -> None:
        self._settings = settings
        self._service = service
        self._submitter = submitter
        self._threads = threads
        self._messages = messages
        self._callers = callers

    async def submit(self, body: object, user: object) -> dict[str, Any]:
        """Accept a prompt: ``{"prompt", "queuePosition"?, "fileIds"?, "isNew"}``, or an error."""
        return await self._answered("submit", self._submit(body, user))

    async def wait(self, prompt_id: object, user: object, timeout_s: object) -> dict[str, Any]:
        """The prompt once it has ended, or as it is after ``timeout_s`` seconds (at most ``sync_wait_s``):
        ``{"prompt", "queuePosition"?, "fileIds"?, "responseMessage"?}``, or an error."""
        return await self._answered("wait", self._wait(prompt_id, user, timeout_s))

    async def cancel(self, prompt_id: object, user: object) -> dict[str, Any]:
        """Cancel a prompt that has not ended: ``{"status"}`` that it has now, or an error. Nothing is erased."""
        return await self._answered("cancel", self._cancel(prompt_id, user))

    async def stream(self, prompt_id: object, user: object, after: object) -> AsyncGenerator[dict[str, Any], None]:
        """The entries of the prompt's log behind number ``after``, to the end; or an error as the last item."""
        try:
            caller = await self._callers.find(user, Permission.PROMPT_STREAM)
            if isinstance(after, bool) or not isinstance(after, int) or after < 0:
                raise InvalidField("after", Shown(kind_of(after)), "the number of an entry, 0 for the beginning")
            prompt, _ = await self._service.read(caller.user_id, _id(prompt_id))
            is_over = False
            async with aclosing(self._threads.answer(prompt, after=after)) as entries:
                async for entry in entries:
                    yield entry_object(entry)
                    is_over = entry.delta.kind is DeltaKind.END
            if not is_over:
                # It stopped short: erased meanwhile, or there was nothing behind ``after``.
                await self._service.read(caller.user_id, prompt.id)
        except Exception as error:
            yield error_answer("stream", error)

    async def _submit(self, body: object, user: object) -> dict[str, Any]:
        caller = await self._callers.find(user, Permission.PROMPT_CREATE)
        submission = parse_prompt_request(self._checked(body))
        accepted = await self._submitter.submit(caller, submission)
        return {**prompt_answer(accepted.prompt, accepted.queue_position), "isNew": accepted.is_new}

    async def _wait(self, prompt_id: object, user: object, timeout_s: object) -> dict[str, Any]:
        caller = await self._callers.find(user, Permission.PROMPT_VIEW)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 <= timeout_s < math.inf:
            raise InvalidField("timeout_s", Shown(kind_of(timeout_s)), "a number of seconds, 0 to look without waiting")
        prompt, position = await self._service.read(caller.user_id, _id(prompt_id))
        if timeout_s and not prompt.status.is_terminal:
            prompt, position = await self._service.wait(prompt, min(timeout_s, self._settings.sync_wait_s)), None
        return await with_message(self._messages, prompt, prompt_answer(prompt, position))

    async def _cancel(self, prompt_id: object, user: object) -> dict[str, Any]:
        caller = await self._callers.find(user, Permission.PROMPT_DELETE)
        return {"status": (await self._service.cancel(caller.user_id, _id(prompt_id))).value}

    def _checked(self, body: object) -> dict[str, Any]:
        """The body as it would have come over HTTP: within the same bounds of size, depth and characters."""
        if not isinstance(body, dict):
            raise InvalidField("body", Shown(kind_of(body)), _BODY_RULE)
        try:
            raw = orjson.dumps(body)
        except TypeError:
            # ``from None``: the error may show a key.
            raise InvalidField("body", Shown("what JSON cannot hold"), _BODY_RULE) from None
        if len(raw) > self._settings.max_body_bytes:
            raise TooLarge(f"The request body is too large, allowed are {self._settings.max_body_bytes} bytes")
        return parse_object(raw)

    async def _answered(self, method: str, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        try:
            with translated_errors():
                return await call
        except Exception as error:
            return error_answer(method, error)


def _id(prompt_id: object) -> str:
    if not isinstance(prompt_id, str) or not 0 < len(prompt_id) <= 256:
        raise InvalidField("prompt_id", Shown(kind_of(prompt_id)), "the id of a prompt, 1 to 256 characters")
    return prompt_id
