"""chat-svc: threads and messages (contract 1backend §3, the profile of §11.2 points 8 to 10).

A thread made here is a conversation: prompts in it get its history. Threads are private: their owner is their only member, and
another user's are like those that do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress import wire
from deployments.ingress.accepted import Only, one_or_list
from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import kind_of, read_json
from deployments.ingress.chat_svc_operations import (
    DELETE,
    EVENTS,
    GET_MESSAGES,
    GET_THREAD,
    MESSAGES,
    THREAD_LINKS,
    THREAD_SAVED,
    THREADS,
    WITH_TEXT,
)
from deployments.ingress.events import UserEvents
from deployments.ingress.fields import Integer, Object, PrivateText, Strings, Text, WireModel, json_inside
from deployments.ingress.operation import NOTHING, Operation
from deployments.ingress.own_files import FileLookup, own_files
from deployments.ingress.prompt_request import Id
from deployments.ingress.routing import RoutesBelow
from deployments.settings import Settings
from pipeline.conversation import Author
from pipeline.errors import InvalidField, Shown
from pipeline.ids import new_id
from pipeline.store.connection import translated_errors
from pipeline.store.messages import MOST_PAGE_BYTES, Message, MessageStore
from pipeline.store.threads import ThreadStore

DEFAULT_TITLE = "New chat"
#: Objects of one reply.
MOST_LISTED = 1000
#: What GET /events shows (contract §3).
EVENT_NAMES = frozenset({"chatThreadAdded", "chatThreadUpdate", "chatMessageAdded"})

_TITLE_RULE = "a string of at most 1000 characters"
_IDS_RULE = f"a list of at most {MOST_LISTED} ids, each of 1 to 256 characters"
_FEW_IDS_RULE = "a list of at most 100 ids, each of 1 to 256 characters"
_LIMIT_RULE = f"an integer from 1 to {MOST_LISTED}"

_ANY_ID = {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 256}, {"type": ["number", "boolean"]}]}


def _ids(most: int, rule: str) -> Any:
    def check(value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > most or not all(1 <= len(item) <= 256 for item in value):
            raise ValueError(rule)
        return value

    schema = one_or_list(_ANY_ID, maxItems=most)
    return Annotated[Strings, AfterValidator(check), Only(schema), Field(description=rule)]


Ids = _ids(MOST_LISTED, _IDS_RULE)
FewIds = _ids(100, _FEW_IDS_RULE)
Limit = Annotated[Integer, Field(ge=1, le=MOST_LISTED, description=_LIMIT_RULE)]


class ThreadRequest(WireModel):
    """A thread to make or to change. ``user_ids`` may only name the caller, which no schema says."""

    id: Id | None = None
    title: Annotated[PrivateText, Field(max_length=1000, description=_TITLE_RULE)] | None = None
    topic_ids: FewIds | None = None
    user_ids: Annotated[FewIds | None, SkipJsonSchema()] = None


class MessageRequest(WireModel):
    """``user_id`` may only be the caller's; with ``file_ids`` there need be no text."""

    id: Id | None = None
    text: PrivateText = ""
    user_id: Annotated[Text | None, SkipJsonSchema()] = None
    file_ids: Annotated[FewIds, SkipJsonSchema()] = ()
    meta: Object | None = Field(default=None, description="an object")
    role: Annotated[Author, Field(description="user or assistant")] = Author.USER


class ThreadsRequest(WireModel):
    ids: Ids | None = None
    limit: Limit = MOST_LISTED
    after: Annotated[Integer, Field(ge=0, lt=2**53, description="what an earlier reply said")] | None = None


class MessagesRequest(WireModel):
    thread_id: Id | None = None
    ids: Ids | None = None
    limit: Limit = MOST_LISTED
    after: Annotated[Integer, Field(ge=0, lt=2**53, description="what an earlier reply said")] | None = None


class ChatSvc:
    """The endpoints of chat-svc."""

    def __init__(
        self, settings: Settings, threads: ThreadStore, messages: MessageStore, events: UserEvents, *, files: FileLookup
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._messages = messages
        self._events = events
        self._files = files

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/chat-svc", gate)
        saves_thread = Operation(request=ThreadRequest, response=THREAD_SAVED, links=THREAD_LINKS)
        lists_threads = Operation(request=ThreadsRequest, response=THREADS)
        lists_messages = Operation(request=MessagesRequest, response=MESSAGES)
        saves_message = Operation(request={"allOf": [MessageRequest, WITH_TEXT]}, response=NOTHING, errors=(409,))

        return [
            route("POST", "/thread", self.save_thread, Permission.THREAD_EDIT, saves_thread),
            route("POST", "/threads", self.list_threads, Permission.THREAD_VIEW, lists_threads),
            route("GET", "/thread/{thread_id}", self.get_thread, Permission.THREAD_VIEW, GET_THREAD),
            route("DELETE", "/thread/{thread_id}", self.delete_thread, Permission.THREAD_DELETE, DELETE),
            route("POST", "/thread/{thread_id}/message", self.save_message, Permission.MESSAGE_CREATE, saves_message),
            route("GET", "/thread/{thread_id}/messages", self.list_of_thread, Permission.MESSAGE_VIEW, GET_MESSAGES),
            route("POST", "/thread/{thread_id}/messages", self.list_of_thread, Permission.MESSAGE_VIEW, lists_messages),
            route("POST", "/messages", self.list_messages, Permission.MESSAGE_VIEW, lists_messages),
            route("DELETE", "/message/{message_id}", self.delete_message, Permission.MESSAGE_DELETE, DELETE),
            route("GET", "/events", self.events, Access.AUTHENTICATED, EVENTS, ticket=True),
            # The original's own spelling.
            route("GET", "/evens", self.events, Access.AUTHENTICATED, EVENTS, ticket=True),
        ]

    async def save_thread(self, request: Request) -> Response:
        """Make a thread, or change one's title and topics. The fields may be inside ``thread`` or ``threadData``.

        ``userIds`` may name the caller: threads are private.
        """
        body = await self._body(request)
        user_id = principal(request).user_id
        sent = ThreadRequest.parse(_inner(body, "threadData", "thread"))
        _only_own("userIds", sent.user_ids or (), user_id)
        with translated_errors():
            thread = await self._threads.save(
                user_id,
                sent.id or new_id("thr"),
                default_title=DEFAULT_TITLE,
                title=sent.title,
                topic_ids=sent.topic_ids,
            )
        return _json({"thread": wire.thread_object(thread)})

    async def get_thread(self, request: Request) -> Response:
        """One of the caller's threads."""
        with translated_errors():
            thread = await self._threads.get(principal(request).user_id, request.path_params["thread_id"])
        return _json({"thread": wire.thread_object(thread)})

    async def list_threads(self, request: Request) -> Response:
        """The caller's threads, newest first. ``after`` is in the reply if there may be more."""
        sent = ThreadsRequest.parse(await self._body(request))
        user_id = principal(request).user_id
        with translated_errors():
            if sent.ids is not None:
                found = await self._threads.get_many(user_id, list(dict.fromkeys(sent.ids)))
                threads = sorted((t for t in found if t), key=lambda thread: thread.created_us, reverse=True)
                return _json({"threads": [wire.thread_object(thread) for thread in threads]})
            threads = await self._threads.page(user_id, limit=sent.limit, after_us=sent.after)
        more = {"after": str(threads[-1].created_us)} if len(threads) == sent.limit else {}
        return _json({"threads": [wire.thread_object(thread) for thread in threads], **more})

    async def delete_thread(self, request: Request) -> Response:
        """Remove a thread with all its messages and prompts; those that have not ended are cancelled first."""
        with translated_errors():
            await self._threads.delete(principal(request).user_id, request.path_params["thread_id"])
        return _json({})

    async def save_message(self, request: Request) -> Response:
        """Post a message by hand.

        The thread in the path goes before one in the body. Instead of a text there may be ``fileIds``. ``userId`` may be the
        caller's own.
        """
        sent = MessageRequest.parse(await self._body(request))
        user_id = principal(request).user_id
        _only_own("userId", [sent.user_id] if sent.user_id else [], user_id)
        if not sent.text.strip() and not sent.file_ids:
            raise InvalidField("text", Shown(kind_of(sent.text)), "a string that is not blank, or none with fileIds")
        await own_files(self._files, user_id, sent.file_ids)
        with translated_errors():
            await self._messages.save(
                user_id,
                request.path_params["thread_id"],
                sent.id or new_id("msg"),
                text=sent.text,
                is_answer=sent.role is Author.ASSISTANT,
                file_ids=sent.file_ids,
                meta=sent.meta,
            )
        return _json({})

    async def list_of_thread(self, request: Request) -> Response:
        """The messages of one thread, which must exist, oldest first."""
        sent = MessagesRequest.parse(await self._body(request))
        user_id, thread_id = principal(request).user_id, request.path_params["thread_id"]
        with translated_errors():
            await self._threads.get(user_id, thread_id)
            return await self._page(user_id, thread_id, sent)

    async def list_messages(self, request: Request) -> Response:
        """Messages by id, of a thread, or of all the caller's threads."""
        sent = MessagesRequest.parse(await self._body(request))
        user_id = principal(request).user_id
        with translated_errors():
            if sent.ids is not None:
                found = await self._messages.by_ids(user_id, list(dict.fromkeys(sent.ids)))
                chosen = [message for message in found if sent.thread_id in (None, "", message.thread_id)]
                return _messages(sorted(chosen, key=lambda message: message.created_us))
            if sent.thread_id:
                return await self._page(user_id, sent.thread_id, sent)
            return _messages(await self._of_all_threads(user_id, sent.limit))

    async def _page(self, user_id: str, thread_id: str, sent: MessagesRequest) -> Response:
        page = await self._messages.page(user_id, thread_id, limit=sent.limit, after=sent.after)
        return _messages(page.messages, after=page.after)

    async def _of_all_threads(self, user_id: str, limit: int) -> list[Message]:
        """The first ``limit`` messages, thread by thread; fewer where they are long or the threads are many."""
        messages: list[Message] = []
        characters = 0
        for thread_id in await self._threads.oldest(user_id, MOST_LISTED):
            page = await self._messages.page(user_id, thread_id, limit=limit - len(messages))
            messages += page.messages
            characters += sum(len(message.text) for message in page.messages)
            if page.after is not None or len(messages) >= limit or characters > MOST_PAGE_BYTES:
                break
        return messages

    async def delete_message(self, request: Request) -> Response:
        """Remove one of the caller's messages."""
        with translated_errors():
            await self._messages.delete(principal(request).user_id, request.path_params["message_id"])
        return _json({})

    async def events(self, request: Request) -> Response:
        """Server-Sent Events: what happens to the caller's threads."""
        return await self._events.reply(request, EVENT_NAMES)

    async def _body(self, request: Request) -> dict[str, Any]:
        return await read_json(request, max_bytes=self._settings.max_body_bytes)


def _inner(body: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The object under the first of these keys, whatever their case, else the body itself."""
    keys = {key.lower(): key for key in body}
    for name in names:
        value = json_inside(body.get(keys.get(name.lower(), name)), "{")
        if value is None:
            continue
        if not isinstance(value, dict):
            raise InvalidField(name, Shown(kind_of(value)), "an object")
        return value
    return body


def _only_own(field: str, user_ids: Any, user_id: str) -> None:
    if any(given != user_id for given in user_ids):
        raise InvalidField(field, list(user_ids), f"your own id, {user_id}: threads are private")


def _messages(messages: list[Message], *, after: int | None = None) -> Response:
    more = {} if after is None else {"after": str(after)}
    return _json({"messages": [wire.message_object(message) for message in messages], **more})


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
