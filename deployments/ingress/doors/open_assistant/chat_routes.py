"""/chats: making, listing, changing, hiding and deleting chats (contract A.4)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.open_assistant import wire
from deployments.ingress.doors.open_assistant.answers import Answers
from deployments.ingress.doors.open_assistant.bodies import ChatChange, ChatsQuery
from deployments.ingress.doors.open_assistant.errors import Refused, invalid
from deployments.ingress.doors.open_assistant.replies import json_reply
from deployments.ingress.doors.open_assistant.users import Users
from pipeline.errors import NotFound
from pipeline.ids import time_ordered_id
from pipeline.store.chat_trees import ChatTreeStore, Outcome
from pipeline.store.connection import translated_errors


class ChatRoutes:
    def __init__(self, users: Users, chats: ChatTreeStore, answers: Answers, *, max_body_bytes: int) -> None:
        self._users = users
        self._chats = chats
        self._answers = answers
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate, door: Door) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any, access: Permission, *, limited: bool = False) -> GuardedRoute:
            return GuardedRoute(method, path, endpoint, access=access, gate=gate, door=door, limited=limited)

        return [
            route("POST", "/chats", self.create, Permission.THREAD_EDIT, limited=True),
            route("GET", "/chats", self.list, Permission.THREAD_VIEW),
            # Before the chat of any id, which hides it in the original (contract A.4).
            route("PUT", "/chats/hide_all", self.hide_all, Permission.THREAD_EDIT),
            route("GET", "/chats/{chat_id}", self.get, Permission.THREAD_VIEW),
            route("PUT", "/chats/{chat_id}", self.change, Permission.THREAD_EDIT),
            route("DELETE", "/chats/{chat_id}", self.delete, Permission.THREAD_DELETE),
        ]

    async def create(self, request: Request) -> Response:
        """A new chat. Whatever is sent is not looked at."""
        user_id = principal(request).user_id
        if await self._users.account(user_id) is None:
            raise Refused(404, "User not found")
        with translated_errors():
            chat = await self._chats.create(user_id, time_ordered_id())
        return json_reply(wire.chat_in_list(chat))

    async def list(self, request: Request) -> Response:
        """The caller's chats, newest first."""
        query = ChatsQuery.of(request)
        if query.after is not None and query.before is not None:
            raise Refused(400, "Cannot specify both after and before.")
        with translated_errors():
            page = await self._chats.page(
                principal(request).user_id,
                limit=query.limit,
                with_hidden=query.include_hidden,
                older_than=_decoded("after", query.after),
                newer_than=_decoded("before", query.before),
            )
        return json_reply(
            {
                "chats": [wire.chat_in_list(chat) for chat in page.chats],
                "next": _encoded(page.next_id),
                "prev": _encoded(page.previous_id),
            }
        )

    async def get(self, request: Request) -> Response:
        """A chat with all its messages."""
        try:
            chat, messages = await self._answers.chat(principal(request).user_id, request.path_params["chat_id"])
        except NotFound:
            raise _no_chat() from None
        return json_reply(wire.chat_object(chat, messages))

    async def change(self, request: Request) -> Response:
        """Change what is not null."""
        sent = await ChatChange.read(request, max_bytes=self._max_body_bytes)
        with translated_errors():
            outcome = await self._chats.change(
                principal(request).user_id,
                request.path_params["chat_id"],
                title=sent.title,
                hidden=sent.hidden,
                allow_data_use=sent.allow_data_use,
                tail_id=sent.active_thread_tail_message_id,
            )
        if outcome is Outcome.NO_CHAT:
            raise _no_chat()
        if outcome is Outcome.MISSING:
            raise Refused(400, "Message not found")
        return json_reply(None)

    async def hide_all(self, request: Request) -> Response:
        """Hide every chat of the caller's."""
        with translated_errors():
            await self._chats.hide_all(principal(request).user_id)
        return json_reply(None)

    async def delete(self, request: Request) -> Response:
        """Remove a chat with all that belongs to it; what runs is cancelled."""
        try:
            with translated_errors():
                await self._chats.delete(principal(request).user_id, request.path_params["chat_id"])
        except NotFound:
            raise _no_chat() from None
        return Response(status_code=200)


def _no_chat() -> Refused:
    return Refused(404, "Chat not found")


def _encoded(chat_id: str | None) -> str | None:
    return None if chat_id is None else base64.b64encode(chat_id.encode()).decode()


def _decoded(field: str, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        return base64.b64decode(cursor, validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid("query", field, "value is not a cursor of an earlier reply") from None
