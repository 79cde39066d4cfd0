"""A client of the SEMOSS door, and what it gets."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from pipeline.accounts import Account
from tests.integration.ingress_app import PASSWORD, IngressApp
from tests.integration.model_by_hand import MODEL

BASE = "/Monolith/api"
ASK = f'LLM(engine="{MODEL}", command="<encode>hi "there"; you</encode>", useHistory=true);'
BAD_SESSION = {"errorMessage": "User session is invalid"}


class Browser:
    """A client with cookies."""

    def __init__(self, app: Any) -> None:
        transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 4711))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def log_in(self, account: Account, password: str = PASSWORD) -> httpx.Response:
        return await self.http.get(f"{BASE}/config", headers={"authorization": basic(account.slug, password)})

    async def post(self, endpoint: str, headers: Mapping[str, str] | None = None, **fields: str) -> httpx.Response:
        return await self.http.post(f"{BASE}/engine/{endpoint}", data=fields, headers=headers)

    async def start(self, expression: str, **fields: str) -> str:
        answer = await self.post("runPixelAsync", expression=expression, **fields)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["jobId"]
        return str(answer.json()["jobId"])

    async def poll(self, job_id: str, endpoint: str = "pixelJobStreaming") -> dict[str, Any]:
        answer = await self.post(endpoint, jobId=job_id)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def result(self, job_id: str) -> Any:
        return (await self.post("result", jobId=job_id)).json()


def basic(slug: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{slug}:{password}".encode()).decode()


def content(*words: str) -> list[dict[str, Any]]:
    return [{"stream_type": "content", "data": {"content": word}} for word in words]


def finish(reason: str) -> dict[str, Any]:
    return {"stream_type": "content", "data": {"finish_reason": reason}}


USAGE = {"stream_type": "usage", "data": {"input_tokens": 7, "output_tokens": 3}}


@asynccontextmanager
async def another(replica: IngressApp, account: Account | None = None) -> AsyncIterator[Browser]:
    """Another client, perhaps logged in."""
    browser = Browser(replica.app)
    if account is not None:
        await browser.log_in(account)
    yield browser
    await browser.http.aclose()
