"""A conversation as a model gets it: what was said before in the thread, then the new prompt, cut to the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.errors import ClientError


class Author(StrEnum):
    """Whose words a message is; values as chat templates spell them."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One message of the past."""

    author: Author
    text: str


#: Messages as chat templates take them, to token ids. Raises ClientError where the template refuses them.
Render = Callable[[list[dict[str, str]]], tuple[int, ...]]


def answer_room(max_tokens: int, context_tokens: int) -> int:
    """Tokens of the context that history must leave free: those of the answer, but no more than half of all, or a client who
    asks for "as much as possible" would have no history."""
    return min(max_tokens, context_tokens // 2)


def fits(said: Sequence[Said], prompt: str, *, render: Render, most_tokens: int) -> tuple[int, ...] | None:
    """Token ids of these messages and the prompt behind them; None if they are too many, or the template refuses them."""
    try:
        token_ids = render(chat(said, prompt))
    except ClientError:
        return None
    return token_ids if len(token_ids) <= most_tokens else None


def newest_that_fit(said: Sequence[Said], prompt: str, *, render: Render, most_tokens: int) -> tuple[int, ...] | None:
    """Token ids of the prompt behind as many whole turns as fit, the oldest dropped first; None if not even the last one fits.
    Renders O(log turns) times.

    Args:
        said: oldest first.
        most_tokens: of the whole.
    """
    starts = turn_starts(said)
    best: tuple[int, ...] | None = None
    # As many turns as `kept` fit, as many as `dropped` do not.
    kept, dropped = 0, len(starts) + 1
    count = len(starts)
    while dropped - kept > 1:
        token_ids = fits(said[starts[-count] :], prompt, render=render, most_tokens=most_tokens)
        if token_ids is None:
            dropped = count
        else:
            kept, best = count, token_ids
        count = (kept + dropped) // 2
    return best


def turn_starts(said: Sequence[Said]) -> list[int]:
    """Where turns begin: each with a message of the user, the answers to it belong to it. Answers that come before any of the
    user's are a turn, too."""
    return [index for index, message in enumerate(said) if index == 0 or message.author is Author.USER]


def chat(said: Sequence[Said], prompt: str) -> list[dict[str, str]]:
    """Messages for a chat template. Neighbours of one author become one message: many templates insist on taking turns."""
    messages: list[dict[str, str]] = []
    for author, text in [*((message.author, message.text) for message in said), (Author.USER, prompt)]:
        if messages and messages[-1]["role"] == author:
            messages[-1]["content"] += f"\n\n{text}"
        else:
            messages.append({"role": author.value, "content": text})
    return messages
