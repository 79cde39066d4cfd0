"""Calls of this API as prompts: one durable prompt per answer, found again by whoever sends the same request again, cancelled
when a client that did not ask to keep them goes away."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request

from deployments.ingress.doors.openai.answer import Answer, Usage
from deployments.ingress.doors.openai.errors import OpenAiError
from deployments.ingress.doors.openai.sampling import Call
from deployments.ingress.doors.openai.wire import Head
from deployments.ingress.model_choice import Choice
from deployments.ingress.service import PromptService
from deployments.ingress.threads import ThreadReader
from deployments.tasks import Supervisor
from pipeline.errors import NotFound, PromptSvcError, StoreUnavailable
from pipeline.ids import base62, new_id
from pipeline.prompt import Prompt
from pipeline.states import Status
from pipeline.store.connection import translated_errors
from pipeline.store.logs import LogEntry, LogReader, decode_page
from pipeline.store.messages import MessageStore
from pipeline.store.recent_calls import RecentCalls

logger = logging.getLogger("ray.serve")

#: Beginnings of ids.
PREFIXES = {"chat.completion": "chatcmpl", "text_completion": "cmpl", "image": "img"}
#: Characters of an Idempotency-Key.
MOST_KEY = 256
#: Pause before a prompt whose client has gone is cancelled anew, when the store was away, seconds; and how often.
_PAUSE_S, _TRIES = 1.0, 30

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A call whose prompts are durable."""

    id: str
    user_id: str
    call: Call
    #: One per answer.
    prompts: tuple[Prompt, ...]
    #: Whether they outlive the connection.
    keeps: bool

    @property
    def headers(self) -> dict[str, str]:
        """By which the client finds the first prompt in Prompt Svc's API."""
        return {"x-prompt-id": self.id}

    @property
    def head(self) -> Head:
        first = self.prompts[0]
        return Head(
            id=self.id,
            object=self.call.object,
            created=first.created_us // 1_000_000,
            model=first.model_id,
            metadata=self.call.metadata,
            service_tier=self.call.service_tier,
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """What each text begins with: its prompt, if that was asked for."""
        return tuple(prompt.prompt for prompt in self.prompts) if self.call.echo else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CallIdentity:
    """What a request is known by before it is looked into."""

    #: Of the call: its first prompt's and its thread's, by which a split chooses.
    id: str
    user_id: str
    #: Of the whole request.
    digest: str
    #: The Idempotency-Key.
    key: str | None


class Calls:
    """Begins calls, waits for their answers, and gives them up."""

    def __init__(
        self,
        service: PromptService,
        threads: ThreadReader,
        messages: MessageStore,
        logs: LogReader,
        recent: RecentCalls,
        supervisor: Supervisor,
        *,
        wait_s: float,
    ) -> None:
        """
        Args:
            wait_s: how long a reply that is no stream is waited for, seconds.
        """
        self._service = service
        self._threads = threads
        self._messages = messages
        self._logs = logs
        self._recent = recent
        self._supervisor = supervisor
        self._wait_s = wait_s

    async def begin(
        self,
        request: Request,
        user_id: str,
        body: Mapping[str, Any],
        call: Call,
        accepted: list[Prompt] | None = None,
    ) -> Begun:
        """``identify`` and ``submit``."""
        return await self.submit(await self.identify(request, user_id, call.object, body), call, accepted=accepted)

    async def identify(self, request: Request, user_id: str, kind: str, body: Mapping[str, Any]) -> CallIdentity:
        """What the prompts of a request are known by; they are the same for the same request sent again.

        Args:
            kind: ``Call.object`` of the call that it will be.

        Raises:
            OpenAiError: the Idempotency-Key is too long.
            StoreUnavailable: send it again.
        """
        digest = hashlib.sha256(orjson.dumps([kind, body], option=orjson.OPT_SORT_KEYS)).hexdigest()
        key = _idempotency_key(request)
        if key is None:
            call_id = await self._sent_before(request, user_id, digest) or new_id(PREFIXES[kind])
        else:
            call_id = f"{PREFIXES[kind]}-{_digits(f'{user_id}/{key}')}"
        return CallIdentity(id=call_id, user_id=user_id, digest=digest, key=key)

    async def submit(
        self,
        identity: CallIdentity,
        call: Call,
        choice: Choice | None = None,
        accepted: list[Prompt] | None = None,
    ) -> Begun:
        """Make the call's prompts durable; those of the same request sent again are the same prompts.

        Args:
            choice: the model that all of them run on. None: that of the call's thread.
            accepted: gathers the prompts as they are durable, which tells how far it came when it raises.

        Raises:
            ClientError: a prompt was refused, or the Idempotency-Key was used for another request.
            StoreUnavailable: as in ``PromptService.submit``; sent again it goes on where it stopped.
        """
        call_id, user_id, digest, key = identity.id, identity.user_id, identity.digest, identity.key
        keeps = call.store or key is not None
        prompts = [] if accepted is None else accepted
        remembering = asyncio.ensure_future(self._remember(user_id, digest, call_id, key))
        remembering.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            for index, submission in enumerate(call.submissions):
                note = {"object": call.object, "request": digest, "choice": index, "choices": len(call.submissions)}
                if not index:
                    note |= _described(call)
                named = replace(
                    submission,
                    id=choice_id(call_id, index),
                    thread_id=submission.thread_id or call_id,
                    parameters={**(submission.parameters or {}), "openai": note},
                )
                prompt = (await self._service.submit(user_id, named, choice)).prompt
                prompts.append(prompt)
                if note_of(prompt).get("request") != digest:
                    raise OpenAiError(
                        "Idempotency-Key: it was used for another request",
                        code="idempotency_key_reused",
                        param="Idempotency-Key",
                    )
            await remembering
        except BaseException as error:
            remembering.cancel()
            # Without its other answers a call is none. What may be sent again is left to be found then.
            if not isinstance(error, StoreUnavailable | OpenAiError):
                self._cancel_soon(user_id, prompts, keeps=keeps)
            raise
        return Begun(id=call_id, user_id=user_id, call=call, prompts=tuple(prompts), keeps=keeps)

    async def _remember(self, user_id: str, digest: str, call_id: str, key: str | None) -> None:
        if key is None:
            await self._recent.remember(user_id, digest, call_id)

    async def _sent_before(self, request: Request, user_id: str, digest: str) -> str | None:
        """The call that this request is the SDK's second attempt at; not one that was cancelled, because its client had gone."""
        retries = request.headers.get("x-stainless-retry-count", "0")
        if not (retries.isascii() and retries.isdigit() and int(retries[:9]) > 0):
            return None
        call_id = await self._recent.find(user_id, digest)
        if call_id is None:
            return None
        try:
            prompt, _ = await self._service.read(user_id, call_id)
        except NotFound:
            return None
        return None if prompt.status is Status.CANCELED else call_id

    async def ended(self, request: Request, begun: Begun) -> tuple[Prompt, ...]:
        """The prompts once all have ended. Left by an error it gives the call up.

        Raises:
            ClientDisconnect: the client went away.
            OpenAiError: it takes too long.
        """
        try:
            return await while_connected(request, self.all_ended(begun))
        except BaseException:
            self.give_up(begun)
            raise

    async def all_ended(self, begun: Begun) -> tuple[Prompt, ...]:
        """The same, whatever becomes of the client."""
        prompts = await asyncio.gather(*(self._service.wait(prompt, self._wait_s) for prompt in begun.prompts))
        if not all(prompt.status.is_terminal for prompt in prompts):
            raise OpenAiError(
                f"the answer is not finished after {self._wait_s:g} s; its prompt is {begun.id}",
                code="timeout",
                status=504,
                retry=False,
            )
        return tuple(prompts)

    def give_up(self, begun: Begun) -> None:
        """Nobody waits for a call any more: cancel what has not ended of it, unless it is to be kept."""
        self._cancel_soon(begun.user_id, begun.prompts, keeps=begun.keeps)

    async def answers(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """What is logged of each prompt."""
        return [Answer.of(await self._log(prompt)) for prompt in prompts]

    def follow(self, prompt: Prompt) -> AsyncGenerator[LogEntry, None]:
        """A prompt's log to its end, as it grows."""
        return self._threads.answer(prompt)

    async def usage(self, begun: Begun, message_ids: Sequence[str]) -> Usage:
        """Tokens of the answers whose messages these are. Answers to the same prompt count its tokens once."""
        with translated_errors():
            messages = await self._messages.get_many(begun.user_id, [name for name in message_ids if name])
        metas = [message.meta if message is not None and message.meta else {} for message in messages]
        each = max(1, len(begun.prompts) // begun.call.prompts)
        return Usage(
            prompt=sum(int(meta.get("promptTokens", 0)) for meta in metas[::each]),
            completion=sum(int(meta.get("completionTokens", 0)) for meta in metas),
            reasoning=sum(int(meta.get("reasoningTokens", 0)) for meta in metas),
        )

    async def files(self, user_id: str, message_id: str) -> tuple[str, ...]:
        """Files that an answer consists of."""
        with translated_errors():
            message = await self._messages.get(user_id, message_id)
        return () if message is None else message.file_ids

    async def _log(self, prompt: Prompt) -> list[LogEntry]:
        entries: list[LogEntry] = []
        while True:
            with translated_errors():
                (page,) = await self._logs.read([(prompt.ref, entries[-1].number if entries else 0)])
            if not page:
                return entries
            entries += decode_page(page)

    def _cancel_soon(self, user_id: str, prompts: Sequence[Prompt], *, keeps: bool) -> None:
        # A task of its own: the request's is being cancelled.
        if prompts and not keeps:
            prompt_ids = [prompt.id for prompt in prompts]
            self._supervisor.spawn(self._cancel(user_id, prompt_ids), name="cancel of an abandoned call")

    async def _cancel(self, user_id: str, prompt_ids: Sequence[str]) -> None:
        for prompt_id in prompt_ids:
            for _ in range(_TRIES):
                try:
                    await self._service.cancel(user_id, prompt_id)
                    break
                except NotFound:
                    break
                except PromptSvcError as error:
                    logger.warning("prompt %s: not cancelled yet: %s", prompt_id, error.message)
                    await asyncio.sleep(_PAUSE_S)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """What ``work`` gives, unless the client goes away before. Raises ClientDisconnect then; the work is cancelled."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def merged(
    answers: Sequence[AsyncGenerator[LogEntry, None]],
) -> AsyncGenerator[tuple[int, LogEntry | None], None]:
    """Entries of several logs as they come, each with the number of its log; None behind the last of a log."""
    if len(answers) == 1:
        async with aclosing(answers[0]) as entries:
            async for entry in entries:
                yield 0, entry
        yield 0, None
        return
    # One place: a reader that is slow is waited for, not buffered for.
    queue: asyncio.Queue[tuple[int, LogEntry | None] | Exception] = asyncio.Queue(1)

    async def read(index: int, answer: AsyncGenerator[LogEntry, None]) -> None:
        try:
            async with aclosing(answer) as entries:
                async for entry in entries:
                    await queue.put((index, entry))
            await queue.put((index, None))
        except Exception as error:
            await queue.put(error)

    tasks = [asyncio.ensure_future(read(index, answer)) for index, answer in enumerate(answers)]
    try:
        left = len(tasks)
        while left:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            left -= item[1] is None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def choice_id(call_id: str, index: int) -> str:
    """Id of the prompt of a choice; the first one's is the call's."""
    return f"{call_id}-{index}" if index else call_id


def note_of(prompt: Prompt) -> Mapping[str, Any]:
    """What this API noted of a prompt of its own; nothing for others."""
    found = (prompt.parameters or {}).get("openai")
    return found if isinstance(found, dict) else {}


def _described(call: Call) -> dict[str, Any]:
    """What a call is remembered by, for a client that fetches it later."""
    found = {"metadata": call.metadata, "serviceTier": call.service_tier}
    return {name: value for name, value in found.items() if value is not None}


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if not key:
        return None
    if len(key) > MOST_KEY:
        raise OpenAiError(
            f"Idempotency-Key: got {len(key)} characters, allowed are at most {MOST_KEY}", param="Idempotency-Key"
        )
    return key


def _digits(text: str) -> str:
    """As many as the ids have that are made up (pipeline.ids)."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base62(int.from_bytes(digest[:16], "big")).rjust(22, "0")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
