"""What a client may choose beyond the model: type, template, priority; and model-svc, which says what there is to choose."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.e2e.conftest import ASLEEP, SLOW_PERMITS, Connect
from tests.waiting import until_true

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ALIAS = "huggingface/TheBloke/codellama-7b.Q4_K_M.gguf"
GREEDY = {"temperature": 0, "maxTokens": 8}


async def submit(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/prompt-svc/prompt", json={"prompt": "What is the capital of France?", **body})
    assert response.status_code == 200, response.text
    return response.json()


def encoded(model_id: str) -> str:
    return model_id.replace("/", "%2F")


async def status(client: httpx.AsyncClient, model_id: str) -> dict[str, Any]:
    response = await client.get(f"/model-svc/model/{encoded(model_id)}/status")
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_catalogue_by_id_and_alias(user: httpx.AsyncClient) -> None:
    listed = (await user.post("/model-svc/models")).json()
    assert listed["aliases"][ALIAS] == listed["defaultModelId"] == MODEL
    (found,) = [model for model in listed["models"] if model["id"] == MODEL]
    reply = (await user.get(f"/model-svc/model/{encoded(ALIAS)}")).json()
    assert (reply["exists"], reply["model"]) == (True, found)
    assert "Translation" in reply["platform"]["types"]
    assert reply["platform"] in (await user.post("/model-svc/platforms", json={})).json()["platforms"]
    assert (await user.get("/model-svc/model/no%2Fsuch")).json() == {"error": "Model Not Found"}


async def test_a_model_that_is_scaled_to_zero_says_so_and_starts(
    user: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    asleep = await status(user, ASLEEP)
    assert (asleep["state"], asleep["status"]["running"]) == ("scaled-to-zero", False)
    assert asleep["replicas"] == {"registered": 0, "running": 0, "starting": 0}
    # No prompt, no model named: the type alone leads to the one model that can.
    accepted = await submit(user, type="Unconditional Image Generation", prompt="")
    prompt = accepted["prompt"]
    assert (prompt["modelId"], prompt["type"], accepted["queuePosition"]) == (
        ASLEEP,
        "Unconditional Image Generation",
        1,
    )
    assert (await user.put(f"/model-svc/model/{encoded(ASLEEP)}/start")).status_code == 401
    started = await admin.put(f"/model-svc/model/{encoded(ASLEEP)}/start")
    assert (started.status_code, started.text) == (200, "{}")

    async def running() -> bool:
        return bool((await status(user, ASLEEP))["status"]["running"])

    async def completed() -> bool:
        return bool((await user.get(f"/prompt-svc/prompt/{prompt['id']}")).json()["prompt"]["status"] == "completed")

    await until_true(running, timeout_s=60, every_s=0.2, what="a replica of the model that slept")
    await until_true(completed, timeout_s=30, every_s=0.1, what="the answer of the model that slept")
    again = await admin.put(f"/model-svc/model/{encoded(ASLEEP)}/start")
    assert (again.status_code, again.text) == (200, "{}")

    async def everywhere() -> bool:
        # Either ingress replica may go by what it saw a second ago.
        seen = [await status(user, ASLEEP) for _ in range(8)]
        right = {"registered": 1, "running": 1, "starting": 0}
        return all((one["state"], one["replicas"]) == ("running", right) for one in seen)

    await until_true(everywhere, timeout_s=10, every_s=0.2, what="both ingress replicas to see it run")


async def test_another_default_model_counts_on_every_ingress(user: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    async def make_default(model_id: str) -> None:
        response = await admin.put(f"/model-svc/model/{encoded(model_id)}/make-default")
        assert (response.status_code, response.text) == (200, "{}")

        async def everywhere() -> bool:
            # Two replicas answer by turns.
            answers = [(await user.get("/model-svc/default-model/status")).json()["modelId"] for _ in range(8)]
            return set(answers) == {model_id}

        await until_true(everywhere, timeout_s=10, every_s=0.1, what=f"{model_id} as the default")

    async def model_of_a_prompt() -> str:
        prompt = (await submit(user))["prompt"]
        await user.delete(f"/prompt-svc/prompt/{prompt['id']}")
        return str(prompt["modelId"])

    assert (await user.put(f"/model-svc/model/{encoded('test/slow')}/make-default")).status_code == 401
    await make_default("test/slow")
    try:
        assert await model_of_a_prompt() == "test/slow"
    finally:
        await make_default(MODEL)
    assert await model_of_a_prompt() == MODEL


async def test_a_saved_template_with_variables(new_user: Connect) -> None:
    alice, bob = await new_user(), await new_user()
    template = r"<|im_start|>user\nContext: {context}\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    saved = await alice.post("/prompt-svc/template", json={"name": "qa/1", "template": template})
    assert saved.json()["template"]["variables"] == ["context"]
    body = {"templateName": "qa/1", "parameters": {"textToText": GREEDY}, "sync": True}
    answer = await submit(alice, variables={"context": "France is in Europe."}, **body)
    assert answer["prompt"]["status"] == "completed"
    # The same text, filled in by hand, is the same prompt to the model.
    filled = template.replace("{context}", "France is in Europe.")
    by_hand = await submit(alice, parameters={"textToText": {**GREEDY, "template": filled}}, sync=True)
    counts = [reply["responseMessage"]["meta"]["promptTokens"] for reply in (answer, by_hand)]
    assert counts[0] == counts[1] > 10
    assert answer["responseMessage"]["text"] == by_hand["responseMessage"]["text"]
    missing = await alice.post("/prompt-svc/prompt", json={"prompt": "x", **body})
    assert (missing.status_code, missing.json()["error"].split(":")[0]) == (400, "variables.context")
    foreign = await bob.post("/prompt-svc/prompt", json={"prompt": "x", **body})
    assert foreign.json()["error"] == "templateName: got 'qa/1', allowed is the name of a template you have saved"
    assert (await bob.post("/prompt-svc/templates")).json() == {"templates": []}
    assert (await bob.delete("/prompt-svc/template/qa%2F1")).status_code == 404
    assert (await alice.delete("/prompt-svc/template/qa%2F1")).status_code == 200
    assert (await alice.post("/prompt-svc/templates")).json() == {"templates": []}


async def test_turns_priorities_and_positions(new_user: Connect, admin: httpx.AsyncClient) -> None:
    alice, bob = await new_user(), await new_user()
    mine: list[tuple[httpx.AsyncClient, str]] = []

    async def wait_in_line(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
        answer = await submit(client, modelId="test/slow", **body)
        mine.append((client, answer["prompt"]["id"]))
        return answer

    async def read(client: httpx.AsyncClient, prompt_id: str) -> dict[str, Any]:
        response = await client.get(f"/prompt-svc/prompt/{prompt_id}")
        assert response.status_code == 200, response.text
        return response.json()

    try:
        for _ in range(SLOW_PERMITS):
            await wait_in_line(alice)
        running = [prompt_id for _, prompt_id in mine]

        async def all_run() -> bool:
            return all([(await read(alice, one))["prompt"]["status"] == "running" for one in running])

        await until_true(all_run, timeout_s=30, every_s=0.1, what="every permit taken")
        assert "queuePosition" not in await read(alice, running[0])
        assert [(await wait_in_line(alice))["queuePosition"] for _ in range(5)] == [1, 2, 3, 4, 5]
        bobs = await wait_in_line(bob)
        assert bobs["queuePosition"] == 2
        assert "queuePosition" not in bobs["prompt"]
        assert (await wait_in_line(bob, priority=-1))["queuePosition"] == 7
        urgent = await wait_in_line(admin, priority=10)
        assert urgent["queuePosition"] == 1
        polled = await read(bob, bobs["prompt"]["id"])
        assert (polled["queuePosition"], polled["priority"]) == (3, 0)
        assert (await alice.get(f"/prompt-svc/prompt/{bobs['prompt']['id']}")).status_code == 404
        await alice.delete(f"/prompt-svc/prompt/{running[0]}")
        admins = urgent["prompt"]["id"]

        async def urgent_runs() -> bool:
            return bool((await read(admin, admins))["prompt"]["status"] == "running")

        await until_true(urgent_runs, timeout_s=10, every_s=0.05, what="the urgent prompt")
        assert (await read(bob, bobs["prompt"]["id"]))["queuePosition"] == 2
    finally:
        for client, prompt_id in mine:
            await client.delete(f"/prompt-svc/prompt/{prompt_id}")


@pytest.mark.parametrize(
    "kind", ["Text-to-Text", "Question Answering", "Translation", "Summarization", "Text Generation"]
)
async def test_every_type_about_text_is_answered(user: httpx.AsyncClient, kind: str) -> None:
    answer = await submit(user, type=kind, sync=True, parameters={"textToText": {"maxTokens": 1}})
    assert (answer["prompt"]["type"], answer["prompt"]["status"]) == (kind, "completed")
