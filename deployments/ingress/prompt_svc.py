"""prompt-svc: submit, list, remove, subscribe (contract §1 and §2, the profile of §11.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress import wire
from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.ignored_keys import warnings_of
from deployments.ingress.notices import Notices
from deployments.ingress.prompt_answer import prompt_answer, with_message
from deployments.ingress.prompt_request import PromptRequest, parse_prompt_request
from deployments.ingress.prompt_svc_operations import DELETE, LIST, READ, REMOVE, SUBSCRIBE, TYPES, submit
from deployments.ingress.removal import Removal
from deployments.ingress.routing import RoutesBelow
from deployments.ingress.service import PromptService
from deployments.ingress.sse import Comment, Item, event_stream
from deployments.ingress.submitter import Submitter
from deployments.ingress.threads import Cursor, ThreadReader, Waiting
from deployments.settings import Settings
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.prompt import Prompt
from pipeline.query import parse_query
from pipeline.store.connection import translated_errors
from pipeline.store.listing import Listing
from pipeline.store.messages import MessageStore


class PromptSvc:
    """The endpoints of prompt-svc."""

    def __init__(
        self,
        settings: Settings,
        service: PromptService,
        listing: Listing,
        messages: MessageStore,
        threads: ThreadReader,
        notices: Notices,
        submitter: Submitter,
    ) -> None:
        self._settings = settings
        self._service = service
        self._listing = listing
        self._messages = messages
        self._threads = threads
        self._notices = notices
        self._submitter = submitter

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/prompt-svc", gate)
        stream = "/prompts/{thread_id}/responses/subscribe"
        return [
            route("POST", "/prompt", self.submit, Permission.PROMPT_CREATE, submit(self._settings), limited=True),
            route("GET", "/prompt/{prompt_id}", self.read, Permission.PROMPT_VIEW, READ),
            route("POST", "/prompts", self.list, Permission.PROMPT_VIEW, LIST),
            route("DELETE", "/prompt/{prompt_id}", self.delete, Permission.PROMPT_DELETE, DELETE),
            route("POST", "/remove", self.remove, Permission.PROMPT_DELETE, REMOVE),
            route("GET", stream, self.subscribe, Permission.PROMPT_STREAM, SUBSCRIBE, ticket=True),
            route("POST", "/types", self.types, Access.PUBLIC, TYPES),
        ]

    async def submit(self, request: Request) -> Response:
        """Accept a prompt; with ``sync`` wait for its own end.

        Further keys depend on one another. `history`: whether it gets what its thread says so far. `fileIds`: one's own files.
        `templateName`: a saved template, in place of one among the parameters. `variables`: an object with a text for each
        `{name}` of the template, which need not have a `{prompt}` then. A template rules a history out.

        For a picture: `fileIds` with one image of one's own to start from, or `imageUrl`, an https URL that is downloaded (where
        the service allows downloads). `numIterations` (`n_iter`) times `batchSize` pictures, no more than the model's limit. An
        image model reads the new prompt alone: no history.

        A prompt that failed for good, was cancelled, or is not finished within the server's limit is a 200 too: it was
        accepted, and ``prompt`` tells what became of it. A top-level ``error`` says so in words.

        Unknown keys are ignored; ``warnings`` names them, and the ones that were probably meant.
        """
        caller = principal(request)
        body = await self._body(request)
        lines = warnings_of(PromptRequest, body)
        try:
            submission = parse_prompt_request(body)
        except InvalidField as error:
            # A field that is missing may be there under another name.
            raise InvalidField(error.field, Shown(error.shown), "; ".join([error.allowed, *lines])) from None
        # At the top, where Go clients take keys that they do not know (contract §0.8).
        warnings = {"warnings": lines} if lines else {}
        accepted = await self._submitter.submit(caller, submission)
        if not submission.sync:
            return _json(prompt_answer(accepted.prompt, accepted.queue_position) | warnings)
        prompt = await self._service.wait(accepted.prompt, self._settings.sync_wait_s)
        answer = await with_message(self._messages, prompt, prompt_answer(prompt, None))
        if not prompt.message_id:
            answer["error"] = self._why_no_answer(prompt)
        return _json(answer | warnings)

    async def read(self, request: Request) -> Response:
        """One of the caller's own prompts, with its answer once there is one: what a client polls while it waits."""
        prompt, position = await self._service.read(principal(request).user_id, request.path_params["prompt_id"])
        answer = await with_message(self._messages, prompt, prompt_answer(prompt, position))
        return _json({**answer, "priority": prompt.priority})

    def _why_no_answer(self, prompt: Prompt) -> str:
        if prompt.status.is_terminal:
            return f"{prompt.status}: {prompt.error}" if prompt.error else str(prompt.status)
        return f"not finished within {self._settings.sync_wait_s:g} s; the prompt goes on"

    async def list(self, request: Request) -> Response:
        """The caller's prompts; an admin's listing is of everybody's, without what others wrote.

        Without a filter and an order: those that have not ended. `after` is there if and only if there may be more.
        """
        # The original's Go client cannot read ``after`` (contract §0.8): it must not see one on a listing that fits a page.
        caller = principal(request)
        query = parse_query(_query(await self._body(request)))

        def is_own(prompt: Prompt) -> bool:
            return prompt.user_id == caller.user_id

        def show(prompt: Prompt) -> dict[str, Any]:
            return wire.searched_object(prompt, with_text=is_own(prompt))

        with translated_errors():
            page = await self._listing.page(query, user_id=None if caller.is_admin else caller.user_id, show=show)
        prompts = [wire.prompt_object(prompt, with_text=is_own(prompt)) for prompt in page.prompts]
        answer: dict[str, Any] = {"prompts": prompts, "count": page.count or 0}
        if page.after is not None:
            answer["after"] = page.after
        if page.is_truncated:
            answer["truncated"] = True
        if page.is_count_partial:
            answer["countTruncated"] = True
        return _json(answer)

    async def delete(self, request: Request) -> Response:
        """Cancel a prompt that has not ended, erase one that has.

        The id is in the path; a body may only say the same as ``promptId``, where upstream's clients send it.
        """
        prompt_id = request.path_params["prompt_id"]
        removal = Removal.parse(await self._body(request))
        if removal.prompt_id not in (None, prompt_id):
            raise InvalidField("promptId", removal.prompt_id, "the id in the path")
        return await self._remove(request, prompt_id, removal)

    async def remove(self, request: Request) -> Response:
        """Cancel a prompt that has not ended, erase one that has."""
        removal = Removal.parse(await self._body(request))
        if not removal.prompt_id:
            raise InvalidField("promptId", removal.prompt_id or Shown("nothing"), "the id of a prompt")
        return await self._remove(request, removal.prompt_id, removal)

    async def _remove(self, request: Request, prompt_id: str, removal: Removal) -> Response:
        """Remove the caller's prompt; an admin may name another owner. Never by the id alone: ids are only unique per user,
        and an admin's second DELETE of an own prompt must not hit somebody else's."""
        caller = principal(request)
        owner = caller.user_id if removal.user_id is None or not caller.is_admin else removal.user_id
        await self._service.remove(owner, prompt_id)
        return _json({})

    async def subscribe(self, request: Request) -> Response:
        """The answers of a thread as they are written, one after another; ``Last-Event-ID`` resumes."""
        thread_id = request.path_params["thread_id"]
        if not thread_id:
            raise NotFound
        last = request.headers.get("last-event-id")
        cursor = Cursor.parse(last) if last else None
        return event_stream(
            self._chunks(principal(request).user_id, thread_id, cursor), heartbeat_s=self._settings.sse_heartbeat_s
        )

    async def _chunks(self, user_id: str, thread_id: str, cursor: Cursor | None) -> AsyncIterator[Item]:
        async with aclosing(self._threads.attend(user_id, thread_id, cursor)) as events:
            async for event in events:
                if isinstance(event, Waiting):
                    notice = await self._notices.of(event.ref)
                    if notice is not None:
                        yield Comment(notice)
                    continue
                chunk = wire.chunk(event)
                if chunk is not None:
                    yield str(event.cursor), chunk

    async def types(self, request: Request) -> Response:
        """A stub of the original's documentation: it carries type definitions, no data (contract §1.4)."""
        return _json({})

    async def _body(self, request: Request) -> dict[str, Any]:
        return await read_json(request, max_bytes=self._settings.max_body_bytes)


def _query(body: Mapping[str, Any]) -> Any:
    """The body's ``query``, whatever the case of the key (contract §0.2)."""
    return body.get("query", next((value for key, value in body.items() if key.lower() == "query"), None))


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
