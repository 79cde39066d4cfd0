"""Chats of the Open-Assistant door in the store. An answer's prompt is in the thread that has the chat's id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from pipeline.chat_tree import Chat, ChatMessage, ChatPage, Report, ReportType, Role
from pipeline.errors import NotFound, StoreFull
from pipeline.ids import new_id
from pipeline.store.keys import Keys
from pipeline.store.replies import text
from pipeline.store.scripts import Scripts
from pipeline.store.threads import ThreadStore

#: Chats or messages that one step touches.
TOGETHER = 100
#: Reports that one message can collect.
MOST_REPORTS = 20


class Outcome(StrEnum):
    """What became of a message that was to be added, or of something that was to be kept about one."""

    ADDED = "added"
    KEPT = "kept"
    NO_CHAT = "no chat"
    #: The chat has as many messages as one may have.
    FULL = "full"
    #: A first message for a chat that has one.
    NOT_EMPTY = "not empty"
    NO_PARENT = "no parent"
    #: Prompters and assistants take turns.
    WRONG_PARENT = "wrong parent"
    #: The answer that it would follow is not there yet, or never will be.
    NOT_COMPLETE = "not complete"
    MISSING = "missing"
    NOT_AN_ANSWER = "not an answer"


class ChatTreeStore:
    """Every method may raise redis errors. Chats of other users do not exist here."""

    def __init__(self, client: Redis, keys: Keys, threads: ThreadStore) -> None:
        self._client = client
        self._keys = keys
        self._threads = threads
        self._scripts = Scripts(client, keys.namespace)

    async def create(self, user_id: str, chat_id: str) -> Chat:
        now = int(await self._scripts.run("oa_create_chat", user_id, chat_id))
        return Chat(
            id=chat_id,
            user_id=user_id,
            title=None,
            is_hidden=False,
            allows_data_use=True,
            tail_id=None,
            created_us=now,
            modified_us=now,
        )

    async def get(self, user_id: str, chat_id: str) -> Chat:
        """Raises NotFound."""
        (chat,) = await self._get_many(user_id, [chat_id])
        if chat is None:
            raise NotFound
        return chat

    async def _get_many(self, user_id: str, chat_ids: Sequence[str]) -> list[Chat | None]:
        pipe = self._client.pipeline(transaction=False)
        for chat_id in chat_ids:
            pipe.hgetall(self._keys.oa_chat(f"{user_id}/{chat_id}"))
        records = await pipe.execute() if chat_ids else []
        return [
            _chat(user_id, chat_id, record) if b"created" in record else None
            for chat_id, record in zip(chat_ids, records, strict=True)
        ]

    async def page(
        self,
        user_id: str,
        *,
        limit: int,
        with_hidden: bool = False,
        older_than: str | None = None,
        newer_than: str | None = None,
    ) -> ChatPage:
        """Up to ``limit`` chats, newest first: those made before or after the one of an id, which need not exist any more. Of the
        newer ones it is the oldest."""
        key = (self._keys.oa_chats if with_hidden else self._keys.oa_visible)(user_id)
        if newer_than is None:
            before = "+" if older_than is None else f"({older_than}"
            found = await self._client.zrevrangebylex(key, before, "-", 0, limit + 1)
        else:
            found = await self._client.zrangebylex(key, f"({newer_than}", "+", 0, limit + 1)
        ids = [text(chat_id) for chat_id in found]
        has_more = len(ids) > limit
        ids = ids[:limit] if newer_than is None else ids[:limit][::-1]
        chats = [chat for chat in await self._get_many(user_id, ids) if chat is not None]
        # Contract A.4, GET /chats, "Cursor rule".
        if not ids:
            return ChatPage(chats=[], next_id=newer_than, previous_id=older_than)
        has_next, has_previous = (has_more, older_than is not None) if newer_than is None else (True, has_more)
        return ChatPage(
            chats=chats, next_id=ids[-1] if has_next else None, previous_id=ids[0] if has_previous else None
        )

    async def change(
        self,
        user_id: str,
        chat_id: str,
        *,
        title: str | None = None,
        hidden: bool | None = None,
        allow_data_use: bool | None = None,
        tail_id: str | None = None,
    ) -> Outcome:
        """Change what is not None. KEPT, NO_CHAT, or MISSING for a tail that is no message of the chat."""
        given: dict[str, str | int | None] = {
            "title": title,
            "hidden": None if hidden is None else int(hidden),
            "data_use": None if allow_data_use is None else int(allow_data_use),
            "tail": tail_id,
        }
        fields = [part for name, value in given.items() if value is not None for part in (name, value)]
        outcome = await self._scripts.run("oa_change_chat", user_id, chat_id, *fields)
        return {b"changed": Outcome.KEPT, b"no chat": Outcome.NO_CHAT, b"no message": Outcome.MISSING}[outcome]

    async def hide_all(self, user_id: str) -> None:
        while await self._scripts.run("oa_hide_chats", user_id, TOGETHER) == TOGETHER:
            pass

    async def delete(self, user_id: str, chat_id: str) -> None:
        """Remove a chat with its messages, its answers' prompts and their texts; what runs is cancelled. If it breaks off, nobody
        sees the chat any more, and deleting it again goes on.

        Raises:
            NotFound: the user has no such chat.
        """
        if not await self._scripts.run("oa_begin_delete", user_id, chat_id):
            raise NotFound
        with suppress(NotFound):
            await self._threads.delete(user_id, chat_id)
        while await self._scripts.run("oa_delete_messages", user_id, chat_id, TOGETHER):
            pass

    async def delete_all(self, user_id: str) -> None:
        """Remove every chat of the user."""
        while ids := await self._client.zrange(self._keys.oa_chats(user_id), 0, TOGETHER - 1):
            for chat_id in ids:
                with suppress(NotFound):
                    await self.delete(user_id, text(chat_id))

    async def add_prompter(
        self, user_id: str, chat_id: str, message_id: str, *, parent_id: str | None, content: str, most_messages: int
    ) -> tuple[Outcome, ChatMessage | None]:
        """Add a message of the user's, if the chat can take it. Raises StoreFull."""
        return await self._add(
            user_id, chat_id, message_id, Role.PROMPTER, parent_id, most_messages=most_messages, content=content
        )

    async def add_assistant(
        self,
        user_id: str,
        chat_id: str,
        message_id: str,
        *,
        parent_id: str,
        work_parameters: Mapping[str, Any],
        most_messages: int,
    ) -> tuple[Outcome, ChatMessage | None]:
        """Add the message of an answer, whose prompt has been accepted under the same id."""
        return await self._add(
            user_id,
            chat_id,
            message_id,
            Role.ASSISTANT,
            parent_id,
            most_messages=most_messages,
            work_parameters=work_parameters,
        )

    async def _add(
        self,
        user_id: str,
        chat_id: str,
        message_id: str,
        role: Role,
        parent_id: str | None,
        *,
        most_messages: int,
        content: str = "",
        work_parameters: Mapping[str, Any] | None = None,
    ) -> tuple[Outcome, ChatMessage | None]:
        parameters = "" if work_parameters is None else json.dumps(work_parameters)
        outcome, *when = await self._scripts.run(
            "oa_add_message",
            user_id,
            chat_id,
            message_id,
            role,
            parent_id or "",
            most_messages,
            content,
            parameters,
        )
        if outcome == b"disk full":
            raise StoreFull
        if not when:
            return Outcome(text(outcome)), None
        message = ChatMessage(
            id=message_id,
            user_id=user_id,
            chat_id=chat_id,
            parent_id=parent_id or None,
            role=role,
            text=content,
            created_us=int(when[0]),
            score=0,
            reports=(),
            work_parameters=work_parameters,
        )
        return Outcome.ADDED, message

    async def message(self, user_id: str, chat_id: str, message_id: str) -> ChatMessage:
        """
        Raises:
            NotFound: the user has no such chat, or the chat no such message.
        """
        pipe = self._client.pipeline(transaction=False)
        pipe.hexists(self._keys.oa_chat(f"{user_id}/{chat_id}"), "created")
        pipe.hgetall(self._keys.oa_message(f"{user_id}/{message_id}"))
        exists, record = await pipe.execute()
        if not exists or record.get(b"chat") != chat_id.encode():
            raise NotFound
        return _message(user_id, record)

    async def messages(self, user_id: str, chat_id: str) -> list[ChatMessage]:
        """All messages of a chat, in the order in which they were added."""
        ids = await self._client.zrange(self._keys.oa_messages(f"{user_id}/{chat_id}"), 0, -1)
        pipe = self._client.pipeline(transaction=False)
        for message_id in ids:
            pipe.hgetall(self._keys.oa_message(f"{user_id}/{text(message_id)}"))
        return [_message(user_id, record) for record in (await pipe.execute() if ids else []) if record]

    async def count(self, user_id: str, chat_id: str) -> int:
        return int(await self._client.zcard(self._keys.oa_messages(f"{user_id}/{chat_id}")))

    async def chain(
        self, user_id: str, chat_id: str, message_id: str, *, most: int, most_bytes: int
    ) -> list[tuple[Role, str]]:
        """What was said up to and with a message, the first words first: the ``most`` latest messages of its branch, fewer once
        they are longer than ``most_bytes``. The text of an answer that was erased is empty."""
        rows = await self._scripts.run("oa_read_chain", user_id, chat_id, message_id, most, most_bytes)
        return [(Role(text(role)), text(said)) for role, said in reversed(rows)]

    async def cancel_waiting(self, user_id: str, chat_id: str, *, spare: str) -> None:
        """Cancel the answers of a chat of which nothing is written yet, but for those to the message ``spare``."""
        place: str | None = "-1"
        while place:
            place = text(await self._scripts.run("oa_cancel_waiting", user_id, chat_id, spare, place, TOGETHER))

    async def vote(self, user_id: str, chat_id: str, message_id: str, score: int) -> Outcome:
        """KEPT, MISSING or NOT_AN_ANSWER, as of the next two."""
        return await self._set_on_answer(user_id, chat_id, message_id, "score", score)

    async def evaluate(self, user_id: str, chat_id: str, message_id: str, inferior_ids: Sequence[str]) -> Outcome:
        """Keep that the user prefers an answer to others of the chat."""
        inferior = json.dumps(list(inferior_ids))
        return await self._set_on_answer(user_id, chat_id, message_id, "inferior", inferior, *inferior_ids)

    async def _set_on_answer(
        self, user_id: str, chat_id: str, message_id: str, field: str, value: str | int, *others: str
    ) -> Outcome:
        reply = await self._scripts.run("oa_set_on_answer", user_id, chat_id, message_id, field, value, *others)
        return Outcome(text(reply))

    async def report(self, user_id: str, chat_id: str, message_id: str, type: ReportType, reason: str) -> Outcome:
        """Also FULL, when the message has ``MOST_REPORTS`` already."""
        report = json.dumps({"id": new_id("rep"), "type": type.value, "reason": reason})
        return Outcome(
            text(await self._scripts.run("oa_add_report", user_id, chat_id, message_id, report, MOST_REPORTS))
        )


class RefreshTokenStore:
    """Tokens that a new access token is given for. Only their digests are kept."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def keep(self, token: str, holder: str, *, lifetime_s: int) -> None:
        await self._client.set(self._keys.oa_refresh(_digest(token)), holder, ex=lifetime_s)

    async def holder(self, token: str) -> str | None:
        """Whose token it is, None if it is none, or none any more."""
        found = await self._client.get(self._keys.oa_refresh(_digest(token)))
        return None if found is None else text(found)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _chat(user_id: str, chat_id: str, record: Mapping[bytes, bytes]) -> Chat:
    title, tail = record.get(b"title"), record.get(b"tail")
    return Chat(
        id=chat_id,
        user_id=user_id,
        title=None if title is None else title.decode(),
        is_hidden=record.get(b"hidden") == b"1",
        allows_data_use=record.get(b"data_use", b"1") == b"1",
        tail_id=None if tail is None else tail.decode(),
        created_us=int(record[b"created"]),
        modified_us=int(record[b"modified"]),
    )


def _message(user_id: str, record: Mapping[bytes, bytes]) -> ChatMessage:
    parameters = record.get(b"parameters")
    return ChatMessage(
        id=record[b"id"].decode(),
        user_id=user_id,
        chat_id=record[b"chat"].decode(),
        parent_id=record[b"parent"].decode() or None,
        role=Role(record[b"role"].decode()),
        text=record.get(b"text", b"").decode(),
        created_us=int(record[b"created"]),
        score=int(record.get(b"score", b"0")),
        reports=tuple(_report(line) for line in record.get(b"reports", b"").splitlines()),
        work_parameters=None if parameters is None else json.loads(parameters),
    )


def _report(line: bytes) -> Report:
    fields = json.loads(line)
    return Report(id=fields["id"], type=ReportType(fields["type"]), reason=fields["reason"])
