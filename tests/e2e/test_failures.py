"""What a client sees of failing attempts: retries with backoff, permanent faults, the end of patience."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.e2e.test_prompts import listed, submit, until_status
from tests.sse import subscription


async def test_a_failed_attempt_is_retried_after_two_then_four_seconds(user: httpx.AsyncClient) -> None:
    began = time.monotonic()
    prompt = (await submit(user, "flaky, twice", modelId="test/flaky", threadId="flaky"))["prompt"]
    await until_status(user, prompt["id"], "errored", timeout_s=5)
    async with subscription(user, "flaky") as stream:
        events = await stream.until_end(timeout_s=30)
    took = time.monotonic() - began
    assert events[-1].data["type"] == "done"
    assert 6 <= took < 12
    row = (await listed(user, "id", "equals", prompt["id"]))["prompts"][0]
    assert (row["status"], row["runCount"], "error" in row) == ("completed", 3, False)


async def test_retries_used_up_abandon_the_prompt_and_the_answer_says_why(user: httpx.AsyncClient) -> None:
    answer = await submit(user, "flaky, no retries", modelId="test/flaky", maxRetries=0, sync=True)
    assert answer["prompt"]["status"] == "abandoned"
    assert answer["prompt"]["error"]
    assert answer["error"].startswith("abandoned: ")
    assert answer["prompt"]["runCount"] == 1


async def test_a_permanent_fault_is_not_retried(user: httpx.AsyncClient) -> None:
    began = time.monotonic()
    async with subscription(user, "broken") as stream:
        prompt = (await submit(user, "never", modelId="test/broken", threadId="broken"))["prompt"]
        events = await stream.until_end(timeout_s=10)
    assert time.monotonic() - began < 5
    assert [event.data["type"] for event in events] == ["error"]
    row = (await listed(user, "id", "equals", prompt["id"]))["prompts"][0]
    assert (row["status"], row["runCount"]) == ("abandoned", 1)
    assert row["error"] == events[0].data["text"]


async def test_a_prompt_that_waits_for_its_retry_can_be_cancelled(user: httpx.AsyncClient) -> None:
    prompt = (await submit(user, "flaky, cancelled", modelId="test/flaky"))["prompt"]
    await until_status(user, prompt["id"], "errored", timeout_s=5)
    assert (await user.delete(f"/prompt-svc/prompt/{prompt['id']}")).status_code == 200
    assert await until_status(user, prompt["id"], "canceled", timeout_s=1) == "canceled"


@pytest.mark.parametrize("count", [10])
async def test_users_take_turns(user: httpx.AsyncClient, new_user, count: int) -> None:  # type: ignore[no-untyped-def]
    """One user's queue delays another user's prompt by at most one prompt per free permit."""
    from tests.e2e.conftest import SLOW_PERMITS

    many = [(await submit(user, modelId="test/slow"))["prompt"]["id"] for _ in range(SLOW_PERMITS + count)]
    other = await new_user()
    one = (await submit(other, modelId="test/slow"))["prompt"]["id"]
    for prompt_id in many[:2]:
        await until_status(user, prompt_id, "running")
        await user.delete(f"/prompt-svc/prompt/{prompt_id}")
    await until_status(other, one, "running", timeout_s=10)
    await asyncio.gather(
        *(user.delete(f"/prompt-svc/prompt/{p}") for p in many[2:]), other.delete(f"/prompt-svc/prompt/{one}")
    )
