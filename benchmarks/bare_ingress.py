"""The yardstick of the accept benchmark: a Serve ingress that does nothing but write one Redis hash."""

from __future__ import annotations

import os
from typing import Any

import orjson
from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.ids import new_id
from pipeline.store.connection import connect_impatient


@serve.deployment(num_replicas=2, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.5})
@serve.ingress()
class BareIngress:
    """As many replicas, the same client of the same store, the same JSON library as ours."""

    async def __init__(self, redis_url: str) -> None:  # type: ignore[misc]
        self._client = connect_impatient(redis_url)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Starlette(routes=[Route("/hash", self.write, methods=["POST"])])

    async def write(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        record: dict[Any, Any] = {
            "id": new_id("prom"),
            "prompt": body["prompt"],
            "parameters": orjson.dumps(body["engineParameters"]),
        }
        await self._client.hset(f"bare:{record['id']}", mapping=record)
        return Response(orjson.dumps({"prompt": {"id": record["id"]}}), media_type="application/json")


def build(args: dict[str, Any]) -> serve.Application:
    """Named by the accept benchmark's config file; the store's address is in the environment."""
    return BareIngress.bind(os.environ["REDIS_URL"])  # type: ignore[attr-defined]
