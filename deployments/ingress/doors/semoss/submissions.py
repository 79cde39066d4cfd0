"""A question as a prompt of the service: a room is a thread, its history the thread's."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import replace
from typing import Any

from deployments.ingress.doors.openai.chat_request import auto_parsing
from deployments.ingress.doors.openai.tools import parsing_of
from deployments.ingress.doors.semoss.questions import Question
from deployments.ingress.service import PromptService
from deployments.models import ModelText
from pipeline.conversation import Said, answer_room, chat, turn_starts
from pipeline.errors import ClientError
from pipeline.store.connection import translated_errors
from pipeline.store.history import HistoryReader
from pipeline.submission import PromptSubmission

#: Where a prompt keeps the expression it comes from, among what its client sent.
EXPRESSION = "pixelExpression"
#: Messages of the past that a question with a context may bring along.
MOST_PAST = 256
#: Above every place a message can have.
_NOW = 2**53


class Submissions:
    """Builds them."""

    def __init__(self, service: PromptService, history: HistoryReader) -> None:
        self._service = service
        self._history = history

    async def build(
        self, user_id: str, question: Question, *, expression: str, room_id: str, prompt_id: str | None
    ) -> PromptSubmission:
        """What to submit. With a context or tools, the past is what is complete by now; otherwise the service waits for what is
        under way in the room.

        The expression is kept with the prompt, and so erased with it. Raises ClientError and StoreUnavailable.
        """
        plain = PromptSubmission(
            prompt=question.text,
            id=prompt_id,
            thread_id=room_id,
            model_id=question.engine_id or None,
            sampling=question.sampling,
            history=question.use_history,
            parameters={EXPRESSION: expression},
        )
        system = [] if question.context is None else [{"role": "system", "content": question.context}]
        if question.tools or question.tool_choice is not None:
            plain = await self._with_tools(user_id, plain, question)
        if question.chat is not None:
            return _with_messages(plain, system + [dict(message) for message in question.chat])
        if question.context is None and plain.sampling.parsing is None:
            return plain
        past = await self._past(user_id, room_id) if question.use_history else []
        if past:
            _, text = await self._service.model_of(user_id, plain)
            past = await asyncio.to_thread(_newest_that_fit, system, past, plain, text)
        return _with_messages(plain, system + chat(past, question.text))

    async def _with_tools(self, user_id: str, plain: PromptSubmission, question: Question) -> PromptSubmission:
        # Of the models of a split only those that can call them.
        wish = replace(plain.sampling, parsing=auto_parsing(question.tools, question.tool_choice))
        model, _ = await self._service.model_of(user_id, replace(plain, sampling=wish))
        parsing = parsing_of(question.tools, question.tool_choice, parallel=True, model=model, variables={})
        return replace(plain, sampling=replace(plain.sampling, parsing=parsing))

    async def _past(self, user_id: str, room_id: str) -> list[Said]:
        """What was said and answered in the room, oldest first."""
        with translated_errors():
            page = await self._history.page(user_id, room_id, before=_NOW, most=MOST_PAST)
        return page.said[::-1]


def _with_messages(plain: PromptSubmission, messages: list[dict[str, Any]]) -> PromptSubmission:
    return replace(plain, messages=tuple(messages), history=None)


def _newest_that_fit(
    system: list[dict[str, str]], past: list[Said], plain: PromptSubmission, text: ModelText
) -> list[Said]:
    """As many whole turns as leave room for the answer, the oldest dropped first."""
    most_tokens = text.context_tokens - answer_room(plain.sampling.max_tokens, text.context_tokens)
    tools = plain.sampling.parsing.tools if plain.sampling.parsing else ()
    starts = [*turn_starts(past), len(past)]

    def fits(index: int) -> bool:
        try:
            messages = system + chat(past[starts[index] :], plain.prompt)
            return len(text.render_chat(messages, tools=tools)) <= most_tokens
        except ClientError:
            return False

    dropped = bisect_left(range(len(starts)), True, key=fits)
    return past[starts[min(dropped, len(starts) - 1)] :]
