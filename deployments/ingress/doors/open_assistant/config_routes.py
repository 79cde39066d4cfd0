"""/configs: what there is to choose from, for anybody (contract A.4)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.ingress.auth import Access, Gate, GuardedRoute
from deployments.ingress.doors.door import Door
from deployments.ingress.doors.open_assistant import wire
from deployments.ingress.doors.open_assistant.errors import Refused
from deployments.ingress.doors.open_assistant.replies import json_reply
from deployments.settings import Settings
from pipeline.prompt_type import Capability


class ConfigRoutes:
    def __init__(self, settings: Settings) -> None:
        self._models = [
            wire.model_config(name, "" if name == spec.id else f"answered by {spec.id}")
            for spec in settings.models
            if Capability.TEXT_GENERATION in spec.capabilities
            for name in (spec.id, *spec.aliases)
        ]

    def routes(self, gate: Gate, door: Door) -> list[GuardedRoute]:
        def route(method: str, path: str, endpoint: Any) -> GuardedRoute:
            return GuardedRoute(method, path, endpoint, access=Access.PUBLIC, gate=gate, door=door)

        return [
            route("GET", "/configs/model_configs", self.models),
            route("GET", "/configs/builtin_plugins", self.plugins),
            route("POST", "/configs/plugin_config", self.plugin),
        ]

    async def models(self, _request: Request) -> Response:
        """Every name of a language model, with presets of its sampling."""
        return json_reply(self._models)

    async def plugins(self, _request: Request) -> Response:
        """There are none."""
        return json_reply([])

    async def plugin(self, _request: Request) -> Response:
        """Nothing is fetched for anybody here."""
        raise Refused(422, "Plugins are not supported")
