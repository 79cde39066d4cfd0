"""Puts what was said in its thread in front of a prompt, when its turn has come: the answer before it is known only then."""

from __future__ import annotations

import asyncio
from itertools import dropwhile

from deployments.models import ModelText
from pipeline.conversation import Author, Said, answer_room, fits, newest_that_fit
from pipeline.store.attempts import HistoryWanted
from pipeline.store.history import HistoryReader

#: Messages read at first; each further page is twice as long, up to the most.
FIRST_PAGE, LONGEST_PAGE = 16, 256
#: Messages of a thread that are looked at, even if more would fit.
MOST_MESSAGES = 2048


class Histories:
    """Renders prompts of conversations for one model."""

    def __init__(self, reader: HistoryReader, text: ModelText) -> None:
        self._reader = reader
        self._text = text

    async def render(self, wanted: HistoryWanted, max_tokens: int) -> tuple[int, ...] | None:
        """Token ids of the newest turns that fit, and the prompt. None if there are none: the prompt stands alone then.

        May raise redis errors.
        """
        most_tokens = self._text.context_tokens - answer_room(max_tokens, self._text.context_tokens)
        newest: list[Said] = []
        before: int | None = wanted.place * 2 - 1
        most = FIRST_PAGE
        looked_at = 0
        while before is not None and looked_at < MOST_MESSAGES:
            page = await self._reader.page(wanted.user_id, wanted.thread_id, before=before, most=most)
            newest += page.said
            looked_at += most
            before, most = page.before, min(2 * most, LONGEST_PAGE)
            if before is not None and page.said and await self._is_too_long(newest, wanted.prompt, most_tokens):
                break
        if not newest:
            return None
        return await asyncio.to_thread(
            newest_that_fit,
            newest[::-1],
            wanted.prompt,
            render=self._text.render_chat,
            most_tokens=most_tokens,
        )

    async def _is_too_long(self, newest: list[Said], prompt: str, most_tokens: int) -> bool:
        """Whether there is no need to read on. What begins the page may be half a turn, which a template need not take."""
        whole_turns = list(dropwhile(lambda message: message.author is Author.ASSISTANT, reversed(newest)))
        return (
            await asyncio.to_thread(fits, whole_turns, prompt, render=self._text.render_chat, most_tokens=most_tokens)
            is None
        )
