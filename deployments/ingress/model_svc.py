"""model-svc and /health: what is ready to answer prompts (contract §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute, Permission
from deployments.ingress.model_svc_operations import HEALTH, STATUS
from deployments.settings import Settings
from pipeline.store.connection import translated_errors
from pipeline.store.queue import ModelQueue


class ModelSvc:
    """Status of the models, from the replicas that are registered with the store."""

    def __init__(self, settings: Settings, queues: Mapping[str, ModelQueue]) -> None:
        self._settings = settings
        self._queues = queues

    def routes(self, gate: Gate) -> list[GuardedRoute]:
        return [
            GuardedRoute(
                "GET",
                "/model-svc/default-model/status",
                self.default_status,
                access=Permission.MODEL_VIEW,
                gate=gate,
                operation=STATUS,
            ),
            GuardedRoute("GET", "/health", self.health, access=Access.PUBLIC, gate=gate, operation=HEALTH),
        ]

    async def default_status(self, request: Request) -> Response:
        """Whether the default model can answer."""
        default = self._settings.resolve_model(None)
        assert default is not None
        with translated_errors():
            depth = await self._queues[default.id].depth()
        # One address serves every model: replicas have none of their own.
        address = request.headers.get("host", "")
        return _json({"status": {"assetsReady": True, "running": depth.replicas > 0, "address": address}})

    async def health(self, _request: Request) -> Response:
        """200 while prompts are accepted, which needs the store and nothing else; a model that is not running yet is only
        named.

        Raises:
            StoreUnavailable: answered as a 503.
        """
        with translated_errors():
            depths = await asyncio.gather(*(queue.depth() for queue in self._queues.values()))
        models = {
            model_id: {"running": depth.replicas > 0, "waiting": depth.waiting, "leased": depth.leased}
            for model_id, depth in zip(self._queues, depths, strict=True)
        }
        return _json({"status": "ok", "models": models})


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
