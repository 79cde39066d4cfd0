"""Everything dies at once: the launcher, the store, Ray, every replica. No acknowledged prompt is lost, nor one whose
sync request has given up waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.service import ROOT, Service
from tests.waiting import until_true

PROMPTS = 50
#: Less than they all take.
SYNC_WAIT_S = 1.0
LOGIN = {"appHost": "unnamed", "slug": "1backend", "password": "changeme"}


@asynccontextmanager
async def _logged_in(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        token = (await client.post("/user-svc/login", json=LOGIN)).json()["token"]["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def _config(folder: Path) -> Path:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    config["applications"][0]["args"]["sync_wait_s"] = SYNC_WAIT_S
    file = folder / "serve_config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


async def _count(client: httpx.AsyncClient, *statuses: str) -> int:
    filters = [{"field": "status", "operator": "in", "value": list(statuses)}]
    response = await client.post("/prompt-svc/prompts", json={"query": {"filters": filters, "count": True}})
    return int(response.json()["count"])


@pytest.mark.timeout(600)
async def test_fifty_acknowledged_prompts_survive_kill_9_of_everything(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", config=_config(tmp_path))
    try:
        await asyncio.to_thread(service.start)
        async with _logged_in(service) as client:
            body = {"prompt": "Count to ten.", "parameters": {"textToText": {"maxTokens": 24}}}
            replies = await asyncio.gather(
                *(
                    client.post("/prompt-svc/prompt", json={**body, "id": f"p-{i}", "sync": i == PROMPTS - 1})
                    for i in range(PROMPTS)
                )
            )
            assert {reply.status_code for reply in replies} == {200}
            waited = replies[-1].json()
            assert waited["error"] == f"not finished within {SYNC_WAIT_S:g} s; the prompt goes on"
            assert waited["prompt"]["status"] in ("scheduled", "running")
            assert "responseMessage" not in waited
            # Some run, some wait, none is through.
            await until_true(lambda: _count(client, "running"), timeout_s=30)
        await asyncio.to_thread(service.kill_everything)

        await asyncio.to_thread(service.start)
        async with _logged_in(service) as client:

            async def all_completed() -> bool:
                return await _count(client, "completed") == PROMPTS

            await until_true(all_completed, timeout_s=240, every_s=0.5)
            assert await _count(client, "scheduled", "running", "errored", "abandoned", "canceled") == 0
    finally:
        service.stop()
