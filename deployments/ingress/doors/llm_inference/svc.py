"""``/api/generate-one`` and ``/api/generate-batch`` (contract C; what is decided where the document is of two minds: C.6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.bearers import Bearers
from deployments.ingress.body import read_json
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.llm_inference.generation import Generated, Generator, NotInTime, words
from deployments.ingress.doors.llm_inference.replies import END, WhileConnected, error_reply, part, start
from deployments.ingress.doors.llm_inference.requests import (
    Wanted,
    WantedBatch,
    WantedOne,
    parse_batch,
    parse_one,
)
from deployments.ingress.principal import Principal
from deployments.ingress.tokens import app_id_of
from deployments.settings import Settings
from pipeline.accounts import Account
from pipeline.delta import DeltaKind
from pipeline.errors import ClientError, ServerError, Unauthorized
from pipeline.json_text import InvalidJson
from pipeline.prompt import Prompt

#: Texts of at most so many tokens are generated before their reply begins, so that its status tells whether they are cut.
MOST_TOKENS_FIRST = 16
COMPLETE, CUT = 200, 206


class InvalidJsonFormat(ClientError):
    """Invalid JSON format"""


class StartedAnew(ServerError):
    """The generation had to begin again, behind what was sent of it"""


class LlmInferenceDoor:
    """The two endpoints."""

    def __init__(self, settings: Settings, generator: Generator, bearers: Bearers, anonymous: Account | None) -> None:
        """
        Args:
            anonymous: whose prompts those of callers without a token are; None: such callers are refused.
        """
        self._settings = settings
        self._generator = generator
        self._bearers = bearers
        self._anonymous = anonymous

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        door = Door(prefixes=("/api/",), error_reply=error_reply, identify=self.identify)

        def post(path: str, endpoint: Any) -> GuardedRoute:
            access = Permission.PROMPT_CREATE
            return GuardedRoute("POST", path, endpoint, access=access, gate=gate, door=door, limited=True)

        return [post("/api/generate-one", self.generate_one), post("/api/generate-batch", self.generate_batch)]

    async def identify(self, request: Request) -> Principal:
        """The user of a token; without one the anonymous account, where there is one. Raises Unauthorized."""
        headers = request.headers.getlist("authorization")
        if headers:
            scheme, _, token = headers[0].strip().partition(" ")
            if len(headers) > 1 or scheme.lower() != "bearer":
                raise Unauthorized
            return await self._bearers.holder(token.strip())
        if self._anonymous is None:
            raise Unauthorized
        account = self._anonymous
        return Principal(
            user_id=account.id,
            slug=account.slug,
            roles=account.roles_in(app_id_of("llm-inference")),
            app_id=app_id_of("llm-inference"),
            device="",
            token_id="",
            expires_at=0,
        )

    async def generate_one(self, request: Request) -> Response:
        """One text, in pieces as it is generated."""
        caller = principal(request)
        one = parse_one(await self._body(request))

        async def work(send: Send) -> None:
            async with self._generator.begun(caller.user_id, [one.wanted]) as (prompt,):
                if one.streams and one.wanted.sampling.max_tokens > MOST_TOKENS_FIRST:
                    await self._stream(send, one, prompt)
                else:
                    await self._send_whole(send, one, prompt)

        return WhileConnected(work)

    async def generate_batch(self, request: Request) -> Response:
        """Several texts, all at once."""
        caller = principal(request)
        batch = parse_batch(await self._body(request))

        async def work(send: Send) -> None:
            async with self._generator.begun(caller.user_id, [*batch.wanted]) as prompts:
                texts = await self._in_time(*prompts)
            status = CUT if any(text.is_truncated for text in texts) else COMPLETE
            await send(start(status, "application/json"))
            await send(part(orjson.dumps(_answers(batch, texts)).decode()))
            await send(END)

        return WhileConnected(work)

    async def _stream(self, send: Send, one: WantedOne, prompt: Prompt) -> None:
        """The reply begins with the first piece: until then it can still be an error."""
        has_begun = False
        async with aclosing(self._pieces(one, prompt)) as pieces:
            async for piece in pieces:
                if not has_begun:
                    await send(start(COMPLETE))
                    has_begun = True
                await send(part(piece))
        if not has_begun:
            await send(start(COMPLETE))
        await send(END)

    async def _pieces(self, one: WantedOne, prompt: Prompt) -> AsyncGenerator[str, None]:
        has_text = False
        async with aclosing(self._generator.deltas(prompt)) as deltas:
            async for delta in deltas:
                if delta.kind is DeltaKind.RESTART and has_text:
                    # Nothing can be taken back. The connection breaks, so that nobody takes this for the text.
                    raise StartedAnew
                text = words(delta)
                if text and one.echoes and not has_text:
                    yield one.wanted.prompt
                if text:
                    has_text = True
                    yield text
        if one.echoes and not has_text:
            yield one.wanted.prompt

    async def _send_whole(self, send: Send, one: WantedOne, prompt: Prompt) -> None:
        (generated,) = await self._in_time(prompt)
        await send(start(CUT if generated.is_truncated else COMPLETE))
        await send(part((one.wanted.prompt if one.echoes else "") + generated.text))
        await send(END)

    async def _in_time(self, *prompts: Prompt) -> list[Generated]:
        tasks = [asyncio.ensure_future(self._generator.whole(prompt)) for prompt in prompts]
        try:
            async with asyncio.timeout(self._settings.sync_wait_s):
                return await asyncio.gather(*tasks)
        except TimeoutError:
            raise NotInTime from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _body(self, request: Request) -> dict[str, Any]:
        try:
            return await read_json(request, max_bytes=self._settings.max_body_bytes)
        except InvalidJson:
            raise InvalidJsonFormat from None


def _answers(batch: WantedBatch, texts: list[Generated]) -> list[dict[str, str]]:
    """Answers in the order of their prompts, each in the words of its request."""
    return [_answer(one, text, echoes=batch.echoes) for one, text in zip(batch.wanted, texts, strict=True)]


def _answer(one: Wanted, generated: Generated, *, echoes: bool) -> dict[str, str]:
    name, data = ("id", "data") if one.in_documents_words else ("request_id", "response")
    prompt = {"prompt": one.prompt} if echoes else {}
    return {name: one.id, **prompt, data: generated.text}
