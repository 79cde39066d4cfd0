"""A branch of a chat as a model gets it: cut to its context, so that a long chat is never an error (contract A.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deployments.models import INLINE_CHARACTERS, ModelText
from pipeline.chat_tree import Role
from pipeline.conversation import Author, Said, answer_room, chat, turn_starts
from pipeline.errors import ClientError

Messages = list[dict[str, str]]
Render = Callable[[Sequence[Mapping[str, Any]]], tuple[int, ...]]


def instructions(
    *, system_prompt: str | None, user_profile: str | None, user_response_instructions: str | None
) -> str | None:
    """The system message: what the client says of the assistant, of the user, and of the answers that they want."""
    parts = [
        system_prompt,
        user_profile and f"About the user: {user_profile}",
        user_response_instructions and f"How the user wants you to answer: {user_response_instructions}",
    ]
    return "\n\n".join(part for part in parts if part) or None


async def fit(
    branch: Sequence[tuple[Role, str]], system: str | None, *, text: ModelText, max_new_tokens: int
) -> Messages:
    """Messages for a chat template: the system's, then as many of the newest turns as leave room for the answer; if not even the
    last message fits, its end.

    Args:
        branch: from the first message to the prompter's that is to be answered.
    """
    most = text.context_tokens - answer_room(max_new_tokens, text.context_tokens)
    if sum(len(words) for _, words in branch) + len(system or "") > INLINE_CHARACTERS:
        return await asyncio.to_thread(newest_that_fit, branch, system, render=text.render_chat, most_tokens=most)
    return newest_that_fit(branch, system, render=text.render_chat, most_tokens=most)


def newest_that_fit(
    branch: Sequence[tuple[Role, str]], system: str | None, *, render: Render, most_tokens: int
) -> Messages:
    """See ``fit``. Renders O(log length) times."""
    *past, (_, words) = branch
    authors = {Role.PROMPTER: Author.USER, Role.ASSISTANT: Author.ASSISTANT}
    # An answer that was erased is none.
    said = [Said(author=authors[role], text=text) for role, text in past if text or role is Role.PROMPTER]
    starts = [*turn_starts(said), len(said)]
    head = [] if system is None else [{"role": "system", "content": system}]

    def from_turn(dropped: int) -> Messages:
        return head + chat(said[starts[dropped] :], words)

    def fits(messages: Messages) -> bool:
        try:
            return len(render(messages)) <= most_tokens
        except ClientError:
            return False

    fewest = _first(len(starts), lambda dropped: fits(from_turn(dropped)))
    if fewest is not None:
        return from_turn(fewest)

    def without(characters: int) -> Messages:
        return [*head, {"role": Author.USER.value, "content": words[characters:]}]

    cut = _first(len(words) + 1, lambda characters: fits(without(characters)))
    # With nothing left to cut it is the system's message that is too long: accepting it will say so.
    return without(cut or 0)


def _first(count: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number below ``count`` that it holds for, if it holds for all above it, too; None if for none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2 if low else 0
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low if low < count else None
