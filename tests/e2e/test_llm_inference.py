"""Callers of the LLM Inference Service against the real one: the page's curl, and hanging up."""

from __future__ import annotations

import json

import httpx

from tests.e2e.pages import blocks, run_shell
from tests.service import Service
from tests.waiting import until_true


def test_curl_as_documented(service: Service):
    (block,) = blocks("docs/llm-inference.md", "sh")
    output = run_shell(block, service)
    short, rest = output.split(" 206\n", 1)
    streamed, batch = rest.split(" 200\n", 1)
    answers, _, status = batch.strip().rpartition(" ")
    assert len(short.split()) <= 10
    assert len(streamed.split()) > 10
    assert [answer["id"] for answer in json.loads(answers)] == ["123", "456", "789"]
    assert all(answer["data"] for answer in json.loads(answers))
    assert status == "206"


async def test_hanging_up_cancels(anonymous: httpx.AsyncClient, admin: httpx.AsyncClient):
    body = {"id": "hang-up", "prompt": "Write a very long story", "maxLength": 2000}
    async with anonymous.stream("POST", "/api/generate-one", json=body) as answer:
        assert answer.status_code == 200
        assert await anext(answer.aiter_text())

    async def is_canceled() -> bool:
        query = {"filters": [{"field": "status", "operator": "equals", "value": "canceled"}], "limit": 100}
        listed = await admin.post("/prompt-svc/prompts", json={"query": query})
        return any(prompt["id"].startswith("gen-hang-up-") for prompt in listed.json()["prompts"])

    await until_true(is_canceled, timeout_s=5, every_s=0.1, what="the cancellation")
