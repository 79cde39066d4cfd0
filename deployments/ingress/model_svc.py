"""model-svc and /health: the catalogue, and what of it is ready to answer prompts (contract §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission, principal
from deployments.ingress.default_model import DefaultModel
from deployments.ingress.model_choice import find_model
from deployments.ingress.model_state import ModelState, ServeControl, ServeView, State, model_state
from deployments.ingress.model_svc_operations import DONE, GET, HEALTH, LIST, PLATFORMS, STATUS, of_model
from deployments.ingress.routing import RoutesBelow
from deployments.routing import CurrentRouting
from deployments.settings import ModelSpec, Settings
from pipeline.errors import NotFound, ServerError
from pipeline.store.connection import translated_errors
from pipeline.store.queue import ModelQueue

#: What an engine is called.
_PLATFORM_NAMES = {"vllm": "vLLM", "diffusers": "Diffusers", "scripted": "Scripted (for tests)"}


class NotStarted(ServerError):
    """The model cannot be started."""

    status = 503
    retry_after_s = 10.0


class ModelSvc:
    """The catalogue; the models' state from the replicas that are registered with the store and from Serve."""

    def __init__(
        self,
        settings: Settings,
        queues: Mapping[str, ModelQueue],
        default_model: DefaultModel,
        serve: ServeControl | None,
        routing: CurrentRouting | None = None,
    ) -> None:
        """
        Args:
            queues: by model id.
            serve: None where there is no Serve: then only the store's word counts.
        """
        self._settings = settings
        self._queues = queues
        self._default_model = default_model
        self._serve = serve
        self._routing = routing or CurrentRouting(settings)

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        route = RoutesBelow("/model-svc", gate)
        status, get, done = (of_model(operation, self._settings) for operation in (STATUS, GET, DONE))
        return [
            route("GET", "/default-model/status", self.default_status, Permission.MODEL_VIEW, STATUS),
            route("GET", "/model/{model_id}/status", self.status, Permission.MODEL_VIEW, status),
            route("GET", "/model/{model_id}", self.get, Permission.MODEL_VIEW, get),
            route("POST", "/models", self.list, Permission.MODEL_VIEW, LIST),
            route("POST", "/platforms", self.platforms, Permission.PLATFORM_VIEW, PLATFORMS),
            route("PUT", "/default-model/start", self.start_default, Permission.MODEL_CREATE, DONE),
            route("PUT", "/model/{model_id}/start", self.start, Permission.MODEL_CREATE, done),
            route("PUT", "/model/{model_id}/make-default", self.make_default, Permission.MODEL_EDIT, done),
            GuardedRoute("GET", "/health", self.health, access=Access.PUBLIC, gate=gate, operation=HEALTH),
        ]

    async def default_status(self, request: Request) -> Response:
        """Whether the default model can answer."""
        return await self._status(request, await self._default_model.get())

    async def status(self, request: Request) -> Response:
        """Whether a model can answer."""
        return await self._status(request, self._named(request))

    async def _status(self, request: Request, model: ModelSpec) -> Response:
        registered, view = await self._look(model)
        found = model_state(registered=registered, view=view)
        # One address serves every model: replicas have none of their own. The files are there: the ingress has read them.
        running = found.state is State.RUNNING
        status = {"assetsReady": True, "running": running, "address": request.headers.get("host", "")}
        answer: dict[str, Any] = {"status": status, "modelId": model.id, "state": found.state.value}
        if found.reason:
            answer["reason"] = found.reason
        if found.detail and principal(request).is_admin:
            answer["detail"] = found.detail
        answer["replicas"] = {"registered": registered}
        if view is not None:
            answer["replicas"] |= {"running": view.running, "starting": view.starting}
        return _json(answer)

    async def _look(self, model: ModelSpec) -> tuple[int, ServeView | None]:
        """Replicas registered with the store, and Serve's view."""
        view = await self._serve.view(model.deployment) if self._serve else None
        with translated_errors():
            depth = await self._queues[model.id].depth()
        return depth.replicas, view

    async def get(self, request: Request) -> Response:
        """A model of the catalogue, and what runs it."""
        model = self._named(request)
        return _json({"exists": True, "model": model_object(model), "platform": self._platform(model.engine)})

    async def list(self, _request: Request) -> Response:
        """The catalogue, the state of each model, and the names that prompts are split under."""
        models = self._settings.models
        states = await asyncio.gather(*(self._state(model) for model in models))
        answer = {
            "models": [model_object(model) for model in models],
            "defaultModelId": await self._default_model.name(),
            "aliases": {alias: model.id for model in models for alias in model.aliases},
            "states": {model.id: found.state.value for model, found in zip(models, states, strict=True)},
        }
        if self._routing.now.splits:
            answer["splits"] = self._routing.now.splits
        return _json(answer)

    async def _state(self, model: ModelSpec) -> ModelState:
        registered, view = await self._look(model)
        return model_state(registered=registered, view=view)

    async def platforms(self, _request: Request) -> Response:
        """The engines of the catalogue."""
        engines = dict.fromkeys(model.engine for model in self._settings.models)
        return _json({"platforms": [self._platform(engine) for engine in engines]})

    def _platform(self, engine: str) -> dict[str, Any]:
        """An engine with the types of prompts that the catalogue's models on it answer. Ours run in no containers of their
        own, so there are no architectures to name."""
        capabilities = {c for model in self._settings.models if model.engine == engine for c in model.capabilities}
        types = [kind.value for capability in sorted(capabilities) for kind in capability.types]
        return {
            "id": engine,
            "name": _PLATFORM_NAMES.get(engine, engine),
            "version": 1,
            "architectures": {},
            "types": types,
        }

    async def start_default(self, _request: Request) -> Response:
        """Have the default model get a replica, if it has none. Does not wait for it."""
        return await self._start(await self._default_model.get())

    async def start(self, request: Request) -> Response:
        """Have a model get a replica, if it has none. Does not wait for it."""
        return await self._start(self._named(request))

    async def _start(self, model: ModelSpec) -> Response:
        """Does not wait for the replica; one that runs or starts already is left alone."""
        registered, view = await self._look(model)
        found = model_state(registered=registered, view=view)
        if found.state in (State.FAILED, State.UNKNOWN):
            raise NotStarted(f"The model {model.id} cannot be started: {_why(found)}")
        if found.state is State.SCALED_TO_ZERO:
            with translated_errors():
                await self._queues[model.id].want()
        return _json({})

    async def make_default(self, request: Request) -> Response:
        """Make it the model of prompts that name none."""
        await self._default_model.set(self._named(request))
        return _json({})

    def _named(self, request: Request) -> ModelSpec:
        """The model of the path, by id or alias. Raises NotFound."""
        model = find_model(self._settings.models, request.path_params["model_id"])
        if model is None:
            raise NotFound("Model Not Found")
        return model

    async def health(self, _request: Request) -> Response:
        """200 while prompts are accepted, which needs the store and nothing else; a model that is not running yet is only
        named.

        Raises:
            StoreUnavailable: answered as a 503.
        """
        with translated_errors():
            depths = await asyncio.gather(*(queue.depth() for queue in self._queues.values()))
        models = {
            model_id: {
                "running": depth.replicas > 0,
                "waiting": depth.waiting,
                "blocked": depth.blocked,
                "leased": depth.leased,
            }
            for model_id, depth in zip(self._queues, depths, strict=True)
        }
        return _json({"status": "ok", "models": models})


def model_object(model: ModelSpec) -> dict[str, Any]:
    """The Model object: no key that the original's Go client does not know (contract §0.8). Nothing of where the files are."""
    return {
        "id": model.id,
        "platformId": model.engine,
        "name": model.id.rstrip("/").rsplit("/", 1)[-1],
        "fullName": model.id,
        "tags": [capability.value for capability in model.capabilities],
    }


def _why(found: ModelState) -> str:
    """For admins, who alone can start a model."""
    return " ".join(filter(None, [found.reason, found.detail])) or found.state.value


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
