"""Submitting, waiting, listing, removing: prompt-svc on the real app with the real model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SLOW_PERMITS, Connect
from tests.sse import subscription, text_of
from tests.waiting import until_true

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
GREEDY = {"textToText": {"temperature": 0, "maxTokens": 12}}


async def submit(
    client: httpx.AsyncClient, prompt: str = "What is the capital of France?", **fields: Any
) -> dict[str, Any]:
    body = {"prompt": prompt, "parameters": GREEDY, **fields}
    response = await client.post("/prompt-svc/prompt", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def listed(client: httpx.AsyncClient, field: str, operator: str, value: Any, **query: Any) -> dict[str, Any]:
    filters = [{"field": field, "operator": operator, "value": value}]
    response = await client.post("/prompt-svc/prompts", json={"query": {"filters": filters, **query}})
    assert response.status_code == 200, response.text
    return response.json()


async def status_of(client: httpx.AsyncClient, prompt_id: str) -> str | None:
    rows = (await listed(client, "id", "equals", prompt_id))["prompts"]
    return rows[0]["status"] if rows else None


async def until_status(client: httpx.AsyncClient, prompt_id: str, *wanted: str, timeout_s: float = 60) -> str:
    async def reached() -> str | None:
        status = await status_of(client, prompt_id)
        assert status is not None, f"{prompt_id} is not listed"
        return status if status in wanted else None

    return await until_true(reached, timeout_s=timeout_s, every_s=0.05, what=f"one of {wanted}") or ""


async def test_a_sync_prompt_is_answered_by_the_model(user: httpx.AsyncClient) -> None:
    answer = await submit(user, sync=True)
    prompt, message = answer["prompt"], answer["responseMessage"]
    assert "Paris" in message["text"]
    assert prompt["status"] == "completed"
    assert prompt["modelId"] == MODEL
    assert prompt["runCount"] == 1
    assert prompt["responseMessageId"] == message["id"]
    assert message["threadId"] == prompt["threadId"] == prompt["id"]
    assert "userId" not in message
    assert "error" not in answer


async def test_an_alias_runs_on_the_model_it_names_and_says_so(user: httpx.AsyncClient) -> None:
    answer = await submit(user, sync=True, modelId="huggingface/TheBloke/codellama-7b.Q4_K_M.gguf")
    assert answer["prompt"]["modelId"] == MODEL


async def test_an_async_prompt_is_acknowledged_before_it_runs_and_listed_when_done(user: httpx.AsyncClient) -> None:
    prompt = (await submit(user))["prompt"]
    assert prompt["status"] == "scheduled"
    assert prompt["lastRun"] == "0001-01-01T00:00:00Z"
    await until_status(user, prompt["id"], "completed")


async def test_the_same_id_gives_the_stored_prompt_and_one_answer(user: httpx.AsyncClient) -> None:
    first = await submit(user, id="prom_custom_12345", sync=True)
    again = await submit(user, id="prom_custom_12345", sync=True)
    assert again == first
    assert (await listed(user, "threadId", "equals", first["prompt"]["threadId"], count=True))["count"] == 1


async def test_two_users_may_use_the_same_ids_and_see_only_their_own(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    theirs = [await submit(client, id="batch_item_0", threadId="t", sync=True) for client in (alice, bob)]
    assert theirs[0]["prompt"]["userId"] != theirs[1]["prompt"]["userId"]
    for client, own in zip((alice, bob), theirs, strict=True):
        rows = (await listed(client, "threadId", "equals", "t"))["prompts"]
        assert [row["userId"] for row in rows] == [own["prompt"]["userId"]]


async def test_an_admin_sees_metadata_of_others_and_no_text(user: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    canary = "canary-5f1d which nobody else may read"
    prompt = (await submit(user, canary))["prompt"]
    rows = (await listed(admin, "id", "equals", prompt["id"]))["prompts"]
    assert rows[0]["id"] == prompt["id"]
    assert "canary" not in json.dumps(rows)
    assert rows[0]["prompt"] == ""


async def test_filters_order_limit_and_count(user: httpx.AsyncClient) -> None:
    ids = [(await submit(user, threadId="listing", sync=True))["prompt"]["id"] for _ in range(3)]
    other = (await submit(user, sync=True))["prompt"]["id"]
    newest = await listed(
        user, "threadId", "equals", "listing", limit=2, count=True, orderBy=[{"field": "createdAt", "desc": True}]
    )
    assert [row["id"] for row in newest["prompts"]] == [ids[2], ids[1]]
    assert newest["count"] == 3
    done = await listed(user, "status", "in", ["completed"], count=True)
    assert [row["id"] for row in done["prompts"]] == [*ids, other]
    assert done["count"] == 4
    upstream = {
        "filters": [{"fields": ["id"], "op": "isInList", "valuesJson": json.dumps([ids[0], other])}],
        "orderBys": [{"field": "createdAt"}],
    }
    response = await user.post("/prompt-svc/prompts", json={"query": upstream})
    assert [row["id"] for row in response.json()["prompts"]] == [ids[0], other]


async def test_the_fields_of_a_prompt_are_filtered_ordered_and_paged_through(user: httpx.AsyncClient) -> None:
    """Both dialects, with the queries of the product document that go beyond an index."""
    ids = [(await submit(user, threadId="pages", maxRetries=n % 2, sync=True))["prompt"]["id"] for n in range(5)]
    flaky = (await submit(user, modelId="test/flaky", threadId="pages", sync=True))["prompt"]
    assert (await listed(user, "runCount", "gt", 2))["prompts"] == [flaky]
    assert (await listed(user, "runCount", "gt", 3))["prompts"] == []
    filters = [
        {"fields": ["threadId"], "op": "equals", "valuesJson": '["pages"]'},
        {"op": "or", "subFilters": [{"fields": ["maxRetries"], "op": "isInList", "valuesJson": "[0, 1]"}]},
    ]
    order = json.dumps([{"field": "maxRetries", "desc": True}, {"field": "createdAt", "desc": True}])
    seen, after = [], None
    for rows in (2, 2, 1):
        query = {"filters": filters, "orderBys": order, "limit": 2, "count": True, "afterJson": after}
        page = (await user.post("/prompt-svc/prompts", json={"query": query})).json()
        assert (len(page["prompts"]), page["count"]) == (rows, 5)
        seen += [row["id"] for row in page["prompts"]]
        after = json.dumps([page["after"]]) if "after" in page else None
    assert after is None
    assert seen == [ids[3], ids[1], ids[4], ids[2], ids[0]]
    # By creation, the cursor is a time: the last prompt's.
    page = await listed(user, "threadId", "equals", "pages", limit=4)
    assert page["after"] == page["prompts"][-1]["createdAt"]
    rest = await listed(user, "threadId", "equals", "pages", limit=4, after=page["after"])
    assert [row["id"] for row in rest["prompts"]] == [ids[4], flaky["id"]]
    assert "after" not in rest


async def test_without_filters_what_is_active_is_listed(user: httpx.AsyncClient) -> None:
    await submit(user, sync=True)
    slow = (await submit(user, modelId="test/slow"))["prompt"]["id"]
    response = await user.post("/prompt-svc/prompts")
    assert [row["id"] for row in response.json()["prompts"]] == [slow]
    await user.delete(f"/prompt-svc/prompt/{slow}")


async def test_removing_a_running_prompt_cancels_it_and_frees_its_permit_within_a_second(
    user: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    async with subscription(user, "long-one") as stream:
        long = {"textToText": {"temperature": 0, "maxTokens": 500}}
        prompt_id = (await submit(user, "Write a very long story.", threadId="long-one", parameters=long))["prompt"][
            "id"
        ]
        events = stream.events()
        async with asyncio.timeout(60):
            first = await anext(events)
        assert first.data["type"] == "progress"
        assert (await user.delete(f"/prompt-svc/prompt/{prompt_id}")).json() == {}
        assert await status_of(user, prompt_id) == "canceled"
        async with asyncio.timeout(5):
            kinds = [event.data["type"] async for event in _through(events, "canceled")]
    assert kinds[-1] == "canceled"
    # The replica is free for others: an answer of one token takes no longer than it would have before.
    async with asyncio.timeout(10):
        await submit(user, sync=True, parameters={"textToText": {"maxTokens": 1}})
    health = (await anonymous.get("/health")).json()["models"][MODEL]
    assert health["leased"] == 0


async def _through(events: Any, last: str) -> Any:
    async for event in events:
        yield event
        if event.data["type"] == last:
            return


async def test_removing_a_waiting_prompt_cancels_it_before_it_runs(user: httpx.AsyncClient) -> None:
    running = [(await submit(user, modelId="test/slow"))["prompt"]["id"] for _ in range(SLOW_PERMITS)]
    for prompt_id in running:
        await until_status(user, prompt_id, "running")
    waiting = (await submit(user, modelId="test/slow"))["prompt"]["id"]
    assert await status_of(user, waiting) == "scheduled"
    assert (await user.post("/prompt-svc/remove", json={"promptId": waiting})).json() == {}
    rows = (await listed(user, "id", "equals", waiting))["prompts"]
    assert rows[0]["status"] == "canceled"
    assert "runCount" not in rows[0]
    for prompt_id in running:
        await user.delete(f"/prompt-svc/prompt/{prompt_id}")


async def test_removing_a_finished_prompt_erases_its_text(user: httpx.AsyncClient, store: Any) -> None:
    canary = "canary-77a1 to be forgotten"
    prompt_id = (await submit(user, canary, sync=True))["prompt"]["id"]
    assert (await user.request("DELETE", f"/prompt-svc/prompt/{prompt_id}", json={"promptId": prompt_id})).json() == {}
    assert await status_of(user, prompt_id) is None
    (left,) = store.scan_iter(f"*{prompt_id}*")  # its thread, which has its id, remembers nothing but a number
    assert store.hkeys(left) == [b"place"]
    assert not [key for key in store.scan_iter() if "canary-77a1" in str(value_of(store, key))]
    assert (await user.delete(f"/prompt-svc/prompt/{prompt_id}")).status_code == 404


def value_of(store: Any, key: bytes) -> Any:
    read = {b"hash": store.hgetall, b"string": store.get, b"stream": store.xrange}.get(store.type(key))
    return read(key) if read else store.zrange(key, 0, -1)


async def test_a_foreign_prompt_cannot_be_removed_and_looks_missing(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    prompt_id = (await submit(alice, sync=True))["prompt"]["id"]
    foreign = await bob.delete(f"/prompt-svc/prompt/{prompt_id}")
    unknown = await bob.delete("/prompt-svc/prompt/prom-nobody-has-this")
    assert (foreign.status_code, foreign.text) == (unknown.status_code, unknown.text) == (404, '{"error": "Not Found"}')
    assert await status_of(alice, prompt_id) == "completed"


async def test_two_sync_prompts_of_one_thread_get_their_own_answers(user: httpx.AsyncClient) -> None:
    say = {"llamaCpp": {"template": "{prompt}"}}
    one = {"textToText": {"temperature": 0, "maxTokens": 3}}
    questions = ["1 2 3 4 5", "Monday Tuesday Wednesday"]
    answers = await asyncio.gather(
        *(submit(user, q, threadId="both", sync=True, engineParameters=say, parameters=one) for q in questions)
    )
    for question, answer in zip(questions, answers, strict=True):
        assert answer["prompt"]["prompt"] == question
        assert answer["responseMessage"]["id"] == answer["prompt"]["responseMessageId"]
    assert answers[0]["responseMessage"]["id"] != answers[1]["responseMessage"]["id"]


async def test_templates_decide_what_the_model_reads(user: httpx.AsyncClient) -> None:
    counted = await submit(
        user,
        "5, 6, 7",
        sync=True,
        parameters={"textToText": {"template": "1, 2, 3, 4, {prompt}, 8, 9,", "temperature": 0, "maxTokens": 4}},
    )
    assert "10" in counted["responseMessage"]["text"]
    own = await submit(
        user,
        "5, 6, 7",
        sync=True,
        parameters={"textToText": {"temperature": 0, "maxTokens": 4}},
        engineParameters={"llamaCppParameters": {"template": "1, 2, 3, 4, {prompt}, 8, 9,"}},
    )
    assert own["responseMessage"]["text"] == counted["responseMessage"]["text"]


async def test_sampling_parameters_reach_the_engine(user: httpx.AsyncClient) -> None:
    async def answer(**vllm: Any) -> dict[str, Any]:
        body = {"parameters": None, "engineParameters": {"vllm": vllm}}
        return (await submit(user, "Name three animals.", sync=True, **body))["responseMessage"]

    short = await answer(max_tokens=5, temperature=0)
    assert short["meta"]["finishReason"] == "length"
    assert short["meta"]["completionTokens"] == 5
    twice = [await answer(max_tokens=16, temperature=1.0, seed=7) for _ in range(2)]
    assert twice[0]["text"] == twice[1]["text"]
    whole = (await answer(max_tokens=24, temperature=0))["text"]
    word = whole.split()[3]
    stopped = await answer(max_tokens=24, temperature=0, stop=[word])
    assert stopped["text"] == whole[: whole.index(word)]
    assert stopped["meta"]["finishReason"] == "stop"


async def test_a_json_schema_is_followed(user: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    parameters = {"textToText": {"jsonSchema": schema, "temperature": 0, "maxTokens": 40}}
    answer = await submit(user, "The capital of France as JSON.", sync=True, parameters=parameters)
    assert json.loads(answer["responseMessage"]["text"])["city"] in {"Paris", "Rome"}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"anything": 1}'])
async def test_types_is_an_empty_stub(anonymous: httpx.AsyncClient, body: bytes) -> None:
    response = await anonymous.post("/prompt-svc/types", content=body)
    assert (response.status_code, response.json()) == (200, {})


async def test_model_status_and_health_tell_what_runs(user: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    status = (await user.get("/model-svc/default-model/status?env=&help=false")).json()["status"]
    assert status["assetsReady"] is True
    assert status["running"] is True
    assert isinstance(status["address"], str)
    health = await anonymous.get("/health")
    assert health.status_code == 200
    assert health.json()["models"][MODEL]["running"] is True


async def test_progress_and_done_concatenated_are_the_stored_answer(user: httpx.AsyncClient) -> None:
    async with subscription(user, "concatenation") as stream:
        sync = asyncio.create_task(submit(user, "Tell me a joke with 😀.", threadId="concatenation", sync=True))
        events = await stream.until_end()
        answer = await sync
    assert text_of(events) == answer["responseMessage"]["text"]
    assert events[-1].data["messageId"] == answer["responseMessage"]["id"]


async def test_who_misspells_the_prompt_hears_of_it(user: httpx.AsyncClient) -> None:
    answer = await user.post("/prompt-svc/prompt", json={"promt": "Hi", "sync": True})
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "prompt: got nothing, allowed is a string that is not blank; "
        "promt is not a key of this request and is ignored; did you mean prompt?"
    )
