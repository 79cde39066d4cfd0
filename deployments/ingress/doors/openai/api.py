"""The endpoints under /v1 but for images: models, chat and text completions, what was stored of them, embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Gate, GuardedRoute, Permission, principal
from deployments.ingress.body import read_json
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.openai.calls import Begun, Calls, choice_id, note_of
from deployments.ingress.doors.openai.chat_request import auto_parsing, parse_chat_request
from deployments.ingress.doors.openai.completion_request import parse_completion_request
from deployments.ingress.doors.openai.errors import OpenAiError, error_reply, model_not_found
from deployments.ingress.doors.openai.images import Images
from deployments.ingress.doors.openai.models import named_model
from deployments.ingress.doors.openai.sampling import MOST_CHOICES, Call
from deployments.ingress.doors.openai.stream import CompletionStream, EventStream, check_answered
from deployments.ingress.doors.openai.wire import completion
from deployments.ingress.model_choice import NotCapable, find_model
from deployments.ingress.principal import Principal
from deployments.ingress.service import PromptService
from deployments.models import ModelText
from deployments.settings import ModelSpec, Settings
from pipeline.engine import SamplingParameters
from pipeline.errors import InvalidField, NotFound, Shown
from pipeline.priority import HIGHEST
from pipeline.submission import PromptSubmission

#: One error shape for everything under it, known or not.
DOOR = Door(prefixes=("/v1/",), error_reply=error_reply)
_CHAT, _TEXT = "chat.completion", "text_completion"
#: Who the models are said to be owned by.
_OWNER = "prompt-svc"

ParseCall = Callable[..., Call]


class _Note(BaseModel):
    """What ``Calls.begin`` noted with the first prompt of a chat. Held to its form, since clients of Prompt Svc can write one."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel)

    object: Literal["chat.completion"]
    choice: Annotated[int, Field(ge=0, le=0)]
    choices: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    metadata: dict[str, str] | None = None
    service_tier: str | None = None


class OpenAi:
    """The endpoints."""

    def __init__(
        self,
        settings: Settings,
        service: PromptService,
        calls: Calls,
        texts: Mapping[str, ModelText],
        images: Images,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._service = service
        self._calls = calls
        self._texts = texts
        self._images = images
        #: Since when this process offers its models, unix seconds.
        self._since = int(clock())

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any, access: Permission, *, limited: bool = False) -> GuardedRoute:
            return GuardedRoute(method, f"/v1{path}", endpoint, access=access, gate=gate, limited=limited, door=DOOR)

        create = Permission.PROMPT_CREATE
        return [
            route("GET", "/models", self.list_models, Permission.MODEL_VIEW),
            # Ids have slashes; clients send them encoded or not.
            route("GET", "/models/{model_id:path}", self.read_model, Permission.MODEL_VIEW),
            route("POST", "/chat/completions", self.chat, create, limited=True),
            route("GET", "/chat/completions/{completion_id}", self.read_chat, Permission.PROMPT_VIEW),
            route("DELETE", "/chat/completions/{completion_id}", self.delete_chat, Permission.PROMPT_DELETE),
            route("POST", "/completions", self.complete, create, limited=True),
            route("POST", "/embeddings", self.embed, create, limited=True),
            route("POST", "/images/generations", self._images.generate, create, limited=True),
            route("POST", "/images/edits", self._images.edit, create, limited=True),
        ]

    async def list_models(self, request: Request) -> Response:
        """The models of the catalogue."""
        return _json({"object": "list", "data": [self._model_object(spec) for spec in self._settings.models]})

    async def read_model(self, request: Request) -> Response:
        """One of them, by its id or an alias."""
        name = request.path_params["model_id"]
        spec = find_model(self._settings.models, name)
        if spec is None:
            raise model_not_found(name)
        return _json(self._model_object(spec))

    async def chat(self, request: Request) -> Response:
        """Answer a chat."""
        return await self._answer(request, _CHAT, parse_chat_request)

    async def complete(self, request: Request) -> Response:
        """Go on with a text."""
        return await self._answer(request, _TEXT, parse_completion_request)

    async def embed(self, request: Request) -> Response:
        """Refused: no engine of the service makes embeddings."""
        body = await read_json(request, max_bytes=self._settings.max_body_bytes)
        spec = await self._model(body)
        if not body.get("input"):
            raise InvalidField("input", Shown("nothing"), "a string, token ids, or a list of them")
        raise OpenAiError(f"The model {spec.id} does not make embeddings", param="model", code="model_not_capable")

    async def read_chat(self, request: Request) -> Response:
        """An earlier chat completion of the caller's; 202 while it is not finished."""
        caller = principal(request)
        begun = await self._found(caller, request.path_params["completion_id"])
        if not all(prompt.status.is_terminal for prompt in begun.prompts):
            # A whole object of the type, so that every client can read it: it has no choices yet.
            return _json(
                {**completion(begun.head, [], await self._calls.usage(begun, ())), "status": "in_progress"}, 202
            )
        return await self._reply(begun)

    async def delete_chat(self, request: Request) -> Response:
        """Cancel one that is not finished, erase one that is."""
        caller = principal(request)
        begun = await self._found(caller, request.path_params["completion_id"])
        for prompt in begun.prompts:
            await self._service.remove(caller.user_id, prompt.id)
        return _json({"id": begun.id, "object": "chat.completion.deleted", "deleted": True})

    async def _answer(self, request: Request, kind: str, parse: ParseCall) -> Response:
        began = time.monotonic()
        caller = principal(request)
        body = await read_json(request, max_bytes=self._settings.max_body_bytes)
        spec = await self._model(body)
        identity = await self._calls.identify(request, caller.user_id, kind, body)
        try:
            choice = await self._service.choose(caller.user_id, _outline(identity.id, kind, body))
        except NotCapable:
            raise OpenAiError(
                f"The model {spec.id} does not make text", param="model", code="model_not_capable"
            ) from None
        highest = HIGHEST if caller.is_admin else self._settings.max_user_priority
        model = choice.model
        call = parse(body, model=model, text=self._texts[model.id], highest_priority=highest)
        begun = await self._calls.submit(identity, call, choice)
        if call.stream:
            stream = CompletionStream(self._calls, begun)
            return EventStream(
                stream.frames(),
                heartbeat_s=self._settings.sse_heartbeat_s,
                headers=begun.headers,
                on_end=stream.close,
            )
        await self._calls.ended(request, begun)
        reply = await self._reply(begun)
        reply.headers["openai-processing-ms"] = str(round((time.monotonic() - began) * 1000))
        return reply

    async def _reply(self, begun: Begun) -> Response:
        """The whole answer of a call that has ended."""
        answers = await self._calls.answers(begun.prompts)
        for answer in answers:
            check_answered(answer.finish_reason, answer.error)
        usage = await self._calls.usage(begun, [answer.message_id for answer in answers])
        return _json(completion(begun.head, answers, usage, prompts=begun.texts), headers=begun.headers)

    async def _found(self, caller: Principal, call_id: str) -> Begun:
        """A chat completion of the caller's. Raises NotFound."""
        first, _ = await self._service.read(caller.user_id, call_id)
        try:
            note = _Note.model_validate(note_of(first))
        except ValidationError:
            raise NotFound from None
        others = [
            (await self._service.read(caller.user_id, choice_id(call_id, index)))[0] for index in range(1, note.choices)
        ]
        call = Call(
            object=_CHAT,
            submissions=(PromptSubmission(prompt=first.prompt),),
            metadata=note.metadata,
            service_tier=note.service_tier,
        )
        return Begun(id=call_id, user_id=caller.user_id, call=call, prompts=(first, *others), keeps=True)

    async def _model(self, body: Mapping[str, Any]) -> ModelSpec:
        """The model a request names, the default one if it names none."""
        return named_model(self._service.model_named, body) or await self._service.default_model()

    def _model_object(self, spec: ModelSpec) -> dict[str, Any]:
        return {"id": spec.id, "object": "model", "created": self._since, "owned_by": _OWNER}


def _outline(call_id: str, kind: str, body: Mapping[str, Any]) -> PromptSubmission:
    """As much of a call's prompts as their model is chosen by. The name of the model is a string."""
    parsing = auto_parsing(body.get("tools"), body.get("tool_choice")) if kind == _CHAT else None
    return PromptSubmission(
        prompt="",
        thread_id=call_id,
        model_id=body.get("model") or None,
        sampling=SamplingParameters(parsing=parsing),
    )


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, dict(headers or {}), media_type="application/json")
