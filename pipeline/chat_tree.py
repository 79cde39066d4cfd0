"""Chats as trees: each message follows another one, and a message may have several answers (regenerated, or side by side).

An answer is a prompt of the service under the same id: its state and its text are the prompt's, and neither is kept twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipeline.prompt import make_ref


class Role(StrEnum):
    PROMPTER = "prompter"
    ASSISTANT = "assistant"


class ReportType(StrEnum):
    SPAM = "spam"
    OFFENSIVE = "offensive"
    FEEDBACK = "feedback"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    id: str
    user_id: str
    #: None until the first message, whose text it is then.
    title: str | None
    is_hidden: bool
    allows_data_use: bool
    #: The message that a client shows the end of, one of the chat's or one that is gone.
    tail_id: str | None
    #: Microseconds since the epoch; modified is when the latest message was added.
    created_us: int
    modified_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    id: str
    type: ReportType
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMessage:
    id: str
    user_id: str
    chat_id: str
    #: None for the first one.
    parent_id: str | None
    role: Role
    #: The prompter's words, empty for an answer.
    text: str
    #: Microseconds since the epoch.
    created_us: int
    #: -1, 0 or 1.
    score: int
    reports: tuple[Report, ...]
    #: Of an answer: how it was asked for.
    work_parameters: Mapping[str, Any] | None

    @property
    def ref(self) -> str:
        """Of an answer: the store's name of its prompt."""
        return make_ref(self.user_id, self.id)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPage:
    """Chats, newest first."""

    chats: list[Chat]
    #: Ids behind which a later and an earlier page begin, None if there is none.
    next_id: str | None
    previous_id: str | None
