"""Policies, permits and stream tickets over HTTP, on all ingress replicas of the real service."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Connect
from tests.service import Service
from tests.sse import subscription, text_of
from tests.waiting import until_true

PROMPT = "/prompt-svc/prompt"
#: Answers in a row that show that both replicas have heard: each is asked by chance.
SURE = 14


async def everywhere(ask: Callable[[], Awaitable[int]], status: int) -> None:
    """Until whoever asks gets that status from every replica, within the two seconds that are promised and some for a busy
    machine."""
    row = 0

    async def agreed() -> bool:
        nonlocal row
        row = row + 1 if await ask() == status else 0
        return row >= SURE

    await until_true(agreed, timeout_s=20, every_s=0, what=f"{status} from every replica")


@asynccontextmanager
async def policy(
    admin: httpx.AsyncClient, instance: dict[str, Any], ask: Callable[[], Awaitable[int]]
) -> AsyncIterator[None]:
    """A policy in force; afterwards gone from every replica, which ``ask`` shows by a 400."""
    path = f"/policy-svc/instance/{secrets.token_hex(4)}"
    response = await admin.put(path, json={"instance": instance})
    assert (response.status_code, response.text) == (200, "{}")
    try:
        yield
    finally:
        assert (await admin.delete(path)).status_code == 200
        await everywhere(ask, 400)


async def test_all_replicas_together_admit_the_limit(admin: httpx.AsyncClient, new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()

    async def ask() -> int:
        # Counted when it is admitted, whatever is wrong with it: nothing needs to run.
        return (await alice.post(PROMPT, json={})).status_code

    limit = {"maxRequests": 20, "timeWindow": "1d", "entity": "userId", "scope": "endpoint"}
    instance = {"endpoint": PROMPT, "templateId": "rate-limit", "parameters": {"rateLimit": limit}}
    async with policy(admin, instance, ask):
        await everywhere(ask, 429)
        # A user who comes when every replica knows: exactly the limit, however it is spread.
        statuses = Counter(
            response.status_code for response in await asyncio.gather(*(bob.post(PROMPT, json={}) for _ in range(60)))
        )
        assert statuses == {400: 20, 429: 40}
        refused = await bob.post(PROMPT, json={"prompt": "hi"})
        assert refused.headers["retry-after"] == "120"
        assert refused.json()["error"].startswith(
            "Too Many Requests: a policy allows 20 in 1d to /prompt-svc/prompt per user, try again in 8"
        )


@pytest.mark.parametrize("claimed", [None, "198.51.100.7"])
async def test_an_address_is_the_peers_whatever_a_header_claims(
    admin: httpx.AsyncClient, anonymous: httpx.AsyncClient, claimed: str | None
) -> None:
    headers = {"X-Forwarded-For": claimed} if claimed else {}

    async def ask() -> int:
        return (await anonymous.post("/user-svc/register", json={}, headers=headers)).status_code

    parameters = {"blocklist": {"blockedIPs": ["127.0.0.0/8"]}}
    instance = {"endpoint": "/user-svc/register", "templateId": "blocklist", "parameters": parameters}
    async with policy(admin, instance, ask):
        await everywhere(ask, 401)
        answer = await admin.post("/policy-svc/check", json={"endpoint": "/user-svc/register", "ip": "127.0.0.1"})
        assert answer.json() == {"allowed": False}


async def test_a_permit_is_good_without_a_new_login(admin: httpx.AsyncClient, user: httpx.AsyncClient) -> None:
    slug = (await user.post("/user-svc/self")).json()["user"]["slug"]
    permission = "policy-svc:instance:view"

    async def ask() -> int:
        return (await user.post("/policy-svc/instances")).status_code

    assert await ask() == 401
    assert (await user.post(f"/user-svc/self/has/{permission}")).json()["authorized"] is False
    body = {"permits": [{"id": slug, "permission": permission, "slugs": [slug]}]}
    assert (await user.put("/user-svc/permits", json=body)).status_code == 401
    assert (await admin.put("/user-svc/permits", json=body)).status_code == 200
    await everywhere(ask, 200)
    assert (await user.post(f"/user-svc/self/has/{permission}")).json()["authorized"] is True
    body["permits"][0]["slugs"] = []
    assert (await admin.put("/user-svc/permits", json=body)).status_code == 200
    await everywhere(ask, 401)


async def test_a_role_opens_what_its_permit_says_and_its_loss_ends_the_tokens_that_had_it(
    admin: httpx.AsyncClient, user: httpx.AsyncClient, connect: Callable[..., httpx.AsyncClient]
) -> None:
    me = (await user.post("/user-svc/self")).json()["user"]
    (found,) = (await admin.post("/user-svc/users", json={"search": me["slug"]})).json()["users"]
    assert (found["id"], found["roles"]) == (me["id"], ["user-svc:user"])
    role = f"{me['slug']}-team:reader"
    permit = {"id": role, "permission": "policy-svc:instance:view", "roles": [role]}
    assert (await admin.put("/user-svc/permits", json={"permits": [permit]})).status_code == 200
    enroll = {"role": role, "userId": me["id"]}
    assert (await user.put("/user-svc/enrolls", json={"enrolls": [enroll]})).status_code == 401
    (made,) = (await admin.put("/user-svc/enrolls", json={"enrolls": [enroll]})).json()["enrolls"]

    async def renewed() -> httpx.AsyncClient:
        return connect((await user.post("/user-svc/refresh-token")).json()["token"]["token"])

    reader = await renewed()
    assert (await reader.post("/user-svc/self")).json()["roles"] == ["user-svc:user", role]

    async def ask() -> int:
        return (await reader.post("/policy-svc/instances")).status_code

    await everywhere(ask, 200)
    assert (await user.post("/policy-svc/instances")).status_code == 401
    assert (await admin.request("DELETE", "/user-svc/enrolls", json={"ids": [made["id"]]})).status_code == 200
    await everywhere(ask, 401)
    # Not the role alone: the token. The user logs in anew, without it.
    assert (await reader.post("/prompt-svc/prompts")).status_code == 401
    login = {"appHost": "unnamed", "slug": me["slug"], "password": "correct horse battery"}
    again = connect((await reader.post("/user-svc/login", json=login)).json()["token"]["token"])
    assert (await again.post("/user-svc/self")).json()["roles"] == ["user-svc:user"]
    assert (await again.post("/prompt-svc/prompts")).status_code == 200


def logs_of(service: Service) -> str:
    files = Path(service.record.ray_folder, "session_latest", "logs").rglob("*")
    return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.is_file())


async def test_a_browser_reads_a_stream_by_ticket_and_resumes_it(
    user: httpx.AsyncClient, anonymous: httpx.AsyncClient, service: Service
) -> None:
    parameters = {"textToText": {"temperature": 0, "maxTokens": 12}}
    body = {"prompt": "What is the capital of France?", "threadId": "t", "sync": True, "parameters": parameters}
    text = (await user.post(PROMPT, json=body)).json()["responseMessage"]["text"]
    ticket = (await user.post("/user-svc/stream-ticket")).json()["ticket"]
    path = f"/prompt-svc/prompts/t/responses/subscribe?ticket={ticket}"
    async with subscription(anonymous, "t", last_event_id="1-0", query=f"ticket={ticket}") as stream:
        events = await stream.until_end()
    assert text_of(events) == text
    # As EventSource does by itself, on whichever replica it lands.
    for _ in range(6):
        async with subscription(anonymous, "t", last_event_id=events[0].id, query=f"ticket={ticket}") as stream:
            again = await stream.until_end()
        assert again == events[1:]
    refused = await anonymous.get(path)
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
    jwt = user.headers["Authorization"].removeprefix("Bearer ")
    assert (await anonymous.get(path.replace(ticket, jwt))).status_code == 401
    logs = logs_of(service)
    assert "/user-svc/stream-ticket" in logs  # requests are logged, and their queries are not
    assert ticket not in logs
    assert jwt not in logs
