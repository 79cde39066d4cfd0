"""Replicas follow the queue: from none to what it needs, down while prompts run, and back to none."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import httpx

from deployments.engines.scripted import ScriptedRenderer, expected_answer
from deployments.ingress.prompt_request import parse_prompt_request
from pipeline.store.keys import Keys
from tests.e2e.conftest import ELASTIC, ELASTIC_PERMITS, Connect
from tests.waiting import until_true

#: Tokens of answers that end before a replica is taken away, and of some that do not.
SHORT, LONG = 20, 300


def body(number: int, tokens: int) -> dict[str, Any]:
    return {
        "id": f"elastic-{number}",
        "prompt": f"Number {number}",
        "modelId": ELASTIC,
        "parameters": {"textToText": {"maxTokens": tokens, "temperature": 0}},
    }


def right_answer(request: dict[str, Any]) -> str:
    tokens = ScriptedRenderer().render_chat([{"role": "user", "content": request["prompt"]}])
    text, _ = expected_answer(tokens, parse_prompt_request(request).sampling, answer_tokens=400)
    return text


async def test_replicas_come_and_go_with_the_queue_and_no_answer_notices(new_user: Connect, store: Any) -> None:
    user = await new_user()
    me = (await user.post("/user-svc/self")).json()["user"]["id"]

    async def status() -> dict[str, Any]:
        reply = await user.get(f"/model-svc/model/{quote(ELASTIC, safe='')}/status")
        return dict(reply.json())

    assert (await status())["state"] == "scaled-to-zero"
    # Two replicas' worth. The first two and the last two are long: whichever replica goes first, it has some.
    requests = [body(n, LONG if n in (0, 1, 6, 7) else SHORT) for n in range(2 * ELASTIC_PERMITS)]
    for request in requests:
        accepted = await user.post("/prompt-svc/prompt", json=request)
        assert accepted.status_code == 200, accepted.text
    assert ELASTIC in await first_comment(user, "elastic-0")

    async def has_two() -> bool:
        return bool((await status())["replicas"].get("running") == 2)

    await until_true(has_two, timeout_s=60, every_s=0.2, what="two replicas")

    async def has_one() -> bool:
        return bool((await status())["replicas"].get("running") == 1)

    await until_true(has_one, timeout_s=60, every_s=0.2, what="one replica again")
    answers = [await answer(user, request["id"]) for request in requests]
    assert answers == [right_answer(request) for request in requests]
    # Nobody was killed with one of them, and no run was charged for.
    for request in requests:
        fields = store.hmget(Keys("ps").prompt(f"{me}/{request['id']}"), "crashes", "failures", "runs")
        assert [int(field) for field in fields] == [0, 0, 1], request

    async def asleep() -> bool:
        return bool((await status())["state"] == "scaled-to-zero")

    await until_true(asleep, timeout_s=60, every_s=0.2, what="no replica")
    keys = Keys("ps")
    names = (keys.leases, keys.replicas, keys.serving, keys.used)

    async def nothing_is_left() -> bool:
        # The last one may be on its way out.
        return not store.exists(*(name(ELASTIC) for name in names))

    await until_true(nothing_is_left, timeout_s=10, every_s=0.2, what="the end of the last replica")
    assert [int(n or 0) for n in store.hmget(keys.stats(ELASTIC), "waiting", "permits", "extra")] == [0, 0, 0]


async def first_comment(user: httpx.AsyncClient, thread: str) -> str:
    """What a subscriber of a thread is told before there is an answer."""
    async with (
        asyncio.timeout(20),
        user.stream("GET", f"/prompt-svc/prompts/{thread}/responses/subscribe") as stream,
    ):
        async for line in stream.aiter_lines():
            if line.startswith(":") and line not in (": subscribed", ": heartbeat"):
                return line
    raise AssertionError("the stream ended")


async def answer(user: httpx.AsyncClient, prompt_id: str) -> str:
    async def finished() -> str:
        reply = (await user.get(f"/prompt-svc/prompt/{prompt_id}")).json()
        return str(reply["responseMessage"]["text"]) if reply["prompt"]["status"] == "completed" else ""

    return await until_true(finished, timeout_s=60, every_s=0.3, what=f"the answer of {prompt_id}")
