"""Pictures from the real service: a diffusers pipeline in a replica of its own, the same queue, log and files."""

from __future__ import annotations

import io
import os
import signal
from typing import Any

import httpx
import psutil
from PIL import Image

from tests.e2e.test_prompts import status_of, until_status
from tests.service import Service
from tests.sse import Event, subscription
from tests.waiting import until_true

REPLICA = "ServeReplica:prompt-svc:Diffusion"


async def paint(client: httpx.AsyncClient, prompt: str = "a red circle", **body: Any) -> dict[str, Any]:
    response = await client.post("/prompt-svc/prompt", json={"prompt": prompt, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def picture(client: httpx.AsyncClient, file_id: str) -> Image.Image:
    served = await client.get(f"/file-svc/serve/upload/{file_id}")
    assert served.status_code == 200
    return Image.open(io.BytesIO(served.content))


async def files_of(client: httpx.AsyncClient) -> list[str]:
    found = (await client.post("/file-svc/uploads", json={})).json()["uploads"]
    return [upload["fileId"] for upload in found]


def kinds(events: list[Event]) -> list[str]:
    """What a client sees, repetitions left out."""
    types = ["step" if "step" in event.data else event.data["type"] for event in events]
    return [kind for index, kind in enumerate(types) if index == 0 or types[index - 1] != kind]


async def test_a_synchronous_picture_is_exactly_as_large_as_asked_and_the_same_for_the_same_seed(
    user: httpx.AsyncClient,
) -> None:
    body = {"sync": True, "parameters": {"textToImage": {"width": 100, "height": 70, "steps": 4, "seed": 7}}}
    images = []
    for _ in range(2):
        answer = await paint(user, **body)
        assert answer["prompt"]["status"] == "completed", answer
        (file_id,) = answer["responseMessage"]["fileIds"]
        images.append(await picture(user, file_id))
    assert [image.size for image in images] == [(100, 70)] * 2
    assert images[0].tobytes() == images[1].tobytes()
    assert images[0].info["parameters"].startswith("a red circle\nSteps: 4,")


async def test_a_picture_shows_its_steps_and_the_next_answer_of_the_thread_is_text(user: httpx.AsyncClient) -> None:
    async with subscription(user, "mixed") as stream:
        parameters = {"textToImage": {"width": 128, "height": 128, "steps": 8, "batchSize": 2, "format": "webp"}}
        await paint(user, threadId="mixed", parameters=parameters)
        await paint(user, "What is 2+2?", threadId="mixed", parameters={"textToText": {"maxTokens": 5}})
        events = await stream.until_end(2)
    painted = events[: [event.data["type"] for event in events].index("done") + 1]
    assert kinds(painted) == ["step", "done"]
    assert "".join(event.data.get("text", "") for event in painted) == "Here are your 2 images."
    steps = [event.data["step"] for event in painted[:-1]]
    assert steps == sorted(steps)
    assert painted[-2].data["steps"] == 16
    assert any(event.data.get("preview", "").startswith("data:image/webp;base64,") for event in painted)
    file_ids = painted[-1].data["fileIds"]
    assert [(await picture(user, file_id)).format for file_id in file_ids] == ["WEBP"] * 2
    messages = (await user.post("/chat-svc/messages", json={"threadId": "mixed"})).json()["messages"]
    assert [message.get("fileIds") for message in messages] == [None, file_ids, None, None]
    # From another picture.
    again = await paint(user, fileIds=[file_ids[0]], sync=True, parameters={"textToImage": {"steps": 4}})
    assert again["prompt"]["type"] == "Image-to-Image"
    assert (await picture(user, again["responseMessage"]["fileIds"][0])).size == (128, 128)


async def test_a_replica_that_is_killed_in_mid_picture_costs_time_and_nothing_else(
    service: Service, user: httpx.AsyncClient
) -> None:
    async with subscription(user, "killed") as stream:
        parameters = {"textToImage": {"width": 512, "height": 512, "steps": 100, "seed": 1}}
        prompt_id = (await paint(user, threadId="killed", parameters=parameters))["prompt"]["id"]
        events: list[Event] = []
        async for event in stream.events():
            events.append(event)
            if "step" in event.data:
                break
        await until_status(user, prompt_id, "running")
        (replica,) = [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if REPLICA in " ".join(process.info["cmdline"] or [])
            and any(process.pid == known.pid for known in service.processes())
        ]
        os.kill(replica, signal.SIGKILL)
        async for event in stream.events():
            events.append(event)
            if event.data["type"] in ("done", "error"):
                break
    assert kinds(events) == ["step", "restart", "step", "done"]
    (file_id,) = events[-1].data["fileIds"]
    assert (await picture(user, file_id)).size == (512, 512)
    assert await files_of(user) == [file_id]
    assert await status_of(user, prompt_id) == "completed"


async def test_a_picture_can_be_cancelled_while_it_is_painted(user: httpx.AsyncClient) -> None:
    async with subscription(user, "cancelled") as stream:
        parameters = {"textToImage": {"width": 512, "height": 512, "steps": 100}}
        prompt_id = (await paint(user, threadId="cancelled", parameters=parameters))["prompt"]["id"]
        async for event in stream.events():
            if "step" in event.data:
                break
        await user.delete(f"/prompt-svc/prompt/{prompt_id}")
        events = await stream.until_end(timeout_s=30)
    assert kinds(events)[-1] == "canceled"

    async def replica_is_free() -> bool:
        # A next picture is not kept waiting by the rest of the cancelled one.
        answer = await paint(user, sync=True, parameters={"textToImage": {"width": 64, "height": 64, "steps": 1}})
        return bool(answer["prompt"]["status"] == "completed")

    assert await until_true(replica_is_free, timeout_s=30)
    assert len(await files_of(user)) == 1
