"""Takes answers apart before they are logged: thoughts, text, calls of tools. Wraps any engine; parsers are vLLM's
(``deployments.engines.vllm_parsers``).

What is generated is one text, and its token ids resume it. What was logged of it is a function of that text, so a resumed
attempt parses the whole text again, from its beginning, and says only what the log does not have yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from pipeline.answer import Said
from pipeline.delta import Delta, DeltaKind, FinishReason, TokenLogprob
from pipeline.engine import Engine, SamplingParameters, TextRequest


class AnswerParser(Protocol):
    """Takes one answer apart."""

    #: As the engine gets them: with the form that calls of tools have.
    sampling: SamplingParameters

    def feed(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        """What more is known of the answer with this text, which ``token_ids`` are the ids of: deltas without ids, of the kinds
        THINKING, CONTENT and TOOL. All of it once ``finished``."""
        ...


class Parsers(Protocol):
    def parser(self, request: TextRequest) -> AnswerParser:
        """A fresh parser for a request that has a ``parsing``.

        Raises:
            PermanentEngineError: there is none for what it asks.
        """
        ...


class ParsedEngine:
    """See ``pipeline.engine.Engine``."""

    def __init__(self, engine: Engine, make_parsers: Callable[[], Parsers]) -> None:
        """
        Args:
            make_parsers: called once, in a thread, when the first request asks for it.
        """
        self.fingerprint = engine.fingerprint
        self._engine = engine
        self._make_parsers = make_parsers
        self._parsers: asyncio.Future[Parsers] | None = None

    async def generate(self, request: TextRequest) -> AsyncGenerator[Delta, None]:
        parsed = request.sampling.parsing is not None
        answers = self._parsed(request) if parsed else self._engine.generate(request)
        async with aclosing(answers) as deltas:
            async for delta in deltas:
                yield delta

    async def abort(self, request_id: str) -> None:
        await self._engine.abort(request_id)

    async def check_health(self) -> None:
        await self._engine.check_health()

    async def shutdown(self) -> None:
        await self._engine.shutdown()

    async def _parsed(self, request: TextRequest) -> AsyncGenerator[Delta, None]:
        parsers = await self._loaded()
        answer = _Answer(parsers.parser(request), logged=request.logged, logged_ids=request.logged_token_ids)
        # What was logged is not its text, so the engine is told of the ids alone: it repeats their text before it goes on.
        plain = replace(request, sampling=answer.sampling, logged_text="", logged=())
        async with aclosing(self._engine.generate(plain)) as deltas:
            async for delta in deltas:
                if delta.kind is DeltaKind.RESTART:
                    answer = _Answer(parsers.parser(request))
                    yield delta
                    continue
                for piece in answer.take(delta):
                    yield piece

    async def _loaded(self) -> Parsers:
        if self._parsers is None:
            self._parsers = asyncio.ensure_future(asyncio.to_thread(self._make_parsers))
        return await asyncio.shield(self._parsers)


class _Answer:
    """One answer on its way from the engine to the log."""

    def __init__(self, parser: AnswerParser, *, logged: Sequence[Delta] = (), logged_ids: Sequence[int] = ()) -> None:
        self.sampling = parser.sampling
        self._parser = parser
        #: Ids whose text comes with the next delta.
        self._ids_ahead = tuple(logged_ids)
        self._written = Said()
        self._written.add(logged)
        self._said = Said()
        #: Everything that was generated, kept until the log and the parser agree.
        self._ids: tuple[int, ...] = ()
        self._logprobs: tuple[TokenLogprob, ...] = tuple(one for delta in logged for one in delta.logprobs)
        self._agrees = not logged
        self._called = any(delta.kind is DeltaKind.TOOL for delta in logged)

    def take(self, delta: Delta) -> list[Delta]:
        """What goes to the log for a delta of the engine's."""
        finished = delta.kind is DeltaKind.END
        ids, self._ids_ahead = self._ids_ahead + delta.token_ids, ()
        pieces = self._parser.feed(delta.text, ids, finished=finished)
        self._called = self._called or any(piece.kind is DeltaKind.TOOL for piece in pieces)
        new_ids, logprobs = delta.token_ids, delta.logprobs
        restart: list[Delta] = []
        if not self._agrees:
            self._said.add(pieces)
            self._ids += ids
            self._logprobs += logprobs
            if self._written.is_beginning_of(self._said):
                self._agrees = True
                pieces = self._said.behind(self._written)
            elif not finished and self._said.is_beginning_of(self._written):
                # The parser holds back what it once gave out, when it got the text in other portions.
                pieces = []
            else:
                self._agrees = True
                restart = [Delta(kind=DeltaKind.RESTART)]
                pieces = self._said.behind(Said())
                new_ids, logprobs = self._ids, self._logprobs
        return restart + self._numbered(pieces, new_ids, logprobs, end=delta if finished else None)

    def _numbered(
        self, pieces: list[Delta], ids: tuple[int, ...], logprobs: tuple[TokenLogprob, ...], *, end: Delta | None
    ) -> list[Delta]:
        """The pieces with their ids, all on the first: whoever finds only that one in the log knows how to go on."""
        if pieces:
            pieces = [replace(pieces[0], token_ids=ids, logprobs=logprobs), *pieces[1:]]
            ids, logprobs = (), ()
        if end is None:
            return pieces or ([Delta(token_ids=ids, logprobs=logprobs)] if ids else [])
        reason = end.finish_reason
        if reason is FinishReason.STOP and self._called:
            reason = FinishReason.TOOL_CALLS
        return [*pieces, replace(end, text="", token_ids=ids, logprobs=logprobs, finish_reason=reason)]
