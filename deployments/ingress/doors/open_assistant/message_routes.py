"""/chats/{chat_id}/…: messages, answers as they are written, and what users think of them (contract A.4, A.5)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.open_assistant import wire
from deployments.ingress.doors.open_assistant.answers import Answers
from deployments.ingress.doors.open_assistant.bodies import (
    AssistantMessage,
    Evaluation,
    Messages,
    PrompterMessage,
    ReportOf,
    Vote,
)
from deployments.ingress.doors.open_assistant.errors import Refused
from deployments.ingress.doors.open_assistant.events import AnswerStream
from deployments.ingress.doors.open_assistant.limits import AnswerLimit
from deployments.ingress.doors.open_assistant.replies import json_reply
from deployments.ingress.doors.open_assistant.wire import Told
from pipeline.chat_tree import Role
from pipeline.errors import NotFound
from pipeline.store.chat_trees import MOST_REPORTS, ChatTreeStore, Outcome
from pipeline.store.connection import translated_errors


class MessageRoutes:
    def __init__(
        self,
        chats: ChatTreeStore,
        answers: Answers,
        stream: AnswerStream,
        limit: AnswerLimit,
        *,
        max_body_bytes: int,
    ) -> None:
        self._chats = chats
        self._answers = answers
        self._stream = stream
        self._limit = limit
        self._max_body_bytes = max_body_bytes

    def routes(self, gate: Gate, door: Door) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any, access: Permission, *, limited: bool = False) -> GuardedRoute:
            path = f"/chats/{{chat_id}}{path}"
            return GuardedRoute(method, path, endpoint, access=access, gate=gate, door=door, limited=limited)

        message = "/messages/{message_id}"
        return [
            route("POST", "/prompter_message", self.say, Permission.MESSAGE_CREATE, limited=True),
            route("POST", "/assistant_message", self.ask, Permission.PROMPT_CREATE, limited=True),
            route("POST", "/messages", self.say_and_ask, Permission.PROMPT_CREATE, limited=True),
            route("GET", message, self.get, Permission.MESSAGE_VIEW),
            route("GET", f"{message}/events", self.events, Permission.PROMPT_STREAM),
            route("POST", f"{message}/votes", self.vote, Permission.MESSAGE_CREATE),
            route("POST", f"{message}/message_evals", self.evaluate, Permission.MESSAGE_CREATE),
            route("POST", f"{message}/reports", self.report, Permission.MESSAGE_CREATE),
        ]

    async def say(self, request: Request) -> Response:
        """Add a message of the user's to the chat, or to a branch of it."""
        sent = await PrompterMessage.read(request, max_bytes=self._max_body_bytes)
        return json_reply(wire.message_object(await self._say(request, sent.parent_id, sent.content)))

    async def ask(self, request: Request) -> Response:
        """Have a message answered. The reply comes at once; ``events`` is the answer."""
        user_id = principal(request).user_id
        await self._limit.count(user_id)
        sent = await AssistantMessage.read(request, max_bytes=self._max_body_bytes)
        return json_reply(wire.message_object(await self._ask(request, sent)))

    async def say_and_ask(self, request: Request) -> Response:
        """Both in one step."""
        user_id = principal(request).user_id
        await self._limit.count(user_id)
        sent = await Messages.read(request, max_bytes=self._max_body_bytes)
        # First what would refuse the second step: the message of the first would stay behind.
        self._answers.check_content(sent.content)
        with translated_errors():
            await self._answers.check_queue(self._answers.model(sent.model_config_name))
        prompter = await self._say(request, sent.parent_id, sent.content)
        wanted = AssistantMessage(
            parent_id=prompter.message.id,
            model_config_name=sent.model_config_name,
            sampling_parameters=sent.sampling_parameters,
        )
        assistant = await self._ask(request, wanted)
        return json_reply(
            {
                "prompter_message": wire.message_object(prompter),
                "assistant_message": wire.message_object(assistant),
                # What the document says is in the reply.
                "message_id": assistant.message.id,
            }
        )

    async def _say(self, request: Request, parent_id: str | None, content: str) -> Told:
        try:
            message = await self._answers.say(
                principal(request).user_id, request.path_params["chat_id"], parent_id=parent_id, content=content
            )
        except NotFound:
            raise Refused(404, "Chat not found") from None
        return Told(message=message)

    async def _ask(self, request: Request, wanted: AssistantMessage) -> Told:
        try:
            return await self._answers.ask(principal(request).user_id, request.path_params["chat_id"], wanted)
        except NotFound:
            raise Refused(404, "Chat not found") from None

    async def get(self, request: Request) -> Response:
        """One message, with its text once it is complete."""
        return json_reply(wire.message_object(await self._message(request)))

    async def events(self, request: Request) -> Response:
        """The answer as it is written; 204 for one that is there already: read the message."""
        told = await self._message(request)
        if told.message.role is not Role.ASSISTANT:
            raise Refused(400, "Only assistant messages can be streamed.")
        if told.state in wire.FINISHED:
            return Response(status_code=204)
        return self._stream.response(told)

    async def vote(self, request: Request) -> Response:
        """What the user thinks of an answer: -1, 0 or 1."""
        sent = await Vote.read(request, max_bytes=self._max_body_bytes)
        if sent.score not in (-1, 0, 1):
            raise Refused(400, "Invalid vote score")
        with translated_errors():
            return _kept(await self._chats.vote(*_path(request), sent.score))

    async def evaluate(self, request: Request) -> Response:
        """That the user prefers an answer to others."""
        sent = await Evaluation.read(request, max_bytes=self._max_body_bytes)
        with translated_errors():
            return _kept(await self._chats.evaluate(*_path(request), sent.inferior_message_ids))

    async def report(self, request: Request) -> Response:
        """That something is wrong with an answer."""
        sent = await ReportOf.read(request, max_bytes=self._max_body_bytes)
        with translated_errors():
            return _kept(await self._chats.report(*_path(request), sent.report_type, sent.reason))

    async def _message(self, request: Request) -> Told:
        try:
            return await self._answers.message(*_path(request))
        except NotFound:
            raise Refused(404, "Message not found") from None


def _path(request: Request) -> tuple[str, str, str]:
    return principal(request).user_id, request.path_params["chat_id"], request.path_params["message_id"]


def _kept(outcome: Outcome) -> Response:
    match outcome:
        case Outcome.MISSING:
            raise Refused(404, "Message not found")
        case Outcome.NOT_AN_ANSWER:
            raise Refused(400, "Only assistant messages can be rated or reported.")
        case Outcome.FULL:
            raise Refused(413, f"A message can have {MOST_REPORTS} reports")
    return Response(status_code=200)
