"""What image prompts are refused for when they are submitted, and the pictures that others start from."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from clients.handle import AsyncPromptHandle
from pipeline.image_parameters import ImageTask
from tests.integration.image_world import world
from tests.unit.fake_handle import FakeHandle
from tests.unit.test_downloader import PUBLIC, URL, Internet, downloader, reply


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"parameters": {"textToImage": {"width": 65, "height": 64}}},
            "parameters.textToImage.width: got 65 x 64 pixels, allowed is at most 4096 pixels in all for org/painter",
        ),
        (
            {"engineParameters": {"stableDiffusion": {"txt2Img": {"num_inference_steps": 31}}}},
            "engineParameters.stableDiffusion.txt2Img.num_inference_steps: got 31, allowed is an integer from 1 to 30 "
            "for org/painter",
        ),
        (
            {"parameters": {"textToImage": {"batchSize": 3}}},
            "parameters.textToImage.batchSize: got 3 pictures, allowed is at most 2 pictures of org/painter at a time",
        ),
        ({"type": "Image-to-Image"}, "fileIds: got nothing, allowed is at least one file with the type Image-to-Image"),
        (
            {"modelId": "org/small", "parameters": {"textToImage": {}}},
            "modelId: the model org/small lacks the capability text-to-image, which Text-to-Image needs; "
            "models that have it: org/painter",
        ),
        (
            {"type": "Image-to-Image", "imageUrl": "https://images.example/a.png"},
            "Downloads by URL are switched off here; upload the file (operators: the setting file_downloads)",
        ),
    ],
)
async def test_what_the_model_cannot_do_is_refused_by_name(redis_url: str, body: Any, message: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        assert (await w.submit({"prompt": "a boat", **body}, alice, 400))["error"] == message
        assert (await w.queue.depth()).waiting == 0


def png(*size: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (size[0], size[1])).save(file, "PNG")
    return file.getvalue()


def half_a_png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()[: file.tell() // 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words", "fileIds: the image is in another format, allowed are PNG, JPEG, WEBP"),
        (png(5000, 4000), "fileIds: the image has 5000 x 4000 pixels, allowed are 16000000 in all"),
        (half_a_png(), "fileIds: the image is broken"),
    ],
    ids=["text", "bomb", "broken"],
)
async def test_what_is_no_picture_to_start_from_is_refused_at_once(
    redis_url: str, content: bytes, message: str
) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        file_id = (await w.app.upload(content, as_=alice)).json()["upload"]["fileId"]
        body = {"prompt": "a boat", "type": "Image-to-Image", "fileIds": [file_id]}
        assert (await w.submit(body, alice, 400))["error"] == message


async def test_a_picture_to_start_from_reaches_the_painter(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        first, second = [(await w.app.upload(png(5, 3), as_=alice)).json()["upload"]["fileId"] for _ in range(2)]
        body = {"prompt": "a boat", "fileIds": [first], "parameters": {"textToImage": {"denoisingStrength": 0.3}}}
        assert (await w.submit(body, alice))["prompt"]["type"] == "Image-to-Image"
        await w.paint()
        (request,) = w.painter.requests
        assert (request.parameters.task, request.parameters.strength) == (ImageTask.IMAGE, 0.3)
        assert request.source is not None
        assert request.source.size == (5, 3)
        refused = await w.submit({**body, "fileIds": [first, second]}, alice, 400)
        assert refused["error"] == "fileIds: got 2 files, allowed is one image to start from"


async def test_each_prompt_has_its_own_copy_of_what_a_url_shows(redis_url: str) -> None:
    """Also through a handle; one that is sent again keeps the one it has."""
    internet = Internet(PUBLIC, answer=reply(png(5, 3)))
    async with world(redis_url, downloader=downloader(internet)) as w:
        alice = await w.app.user("alice")
        body = {"prompt": "a boat", "type": "Image-to-Image", "imageUrl": URL}
        first = await w.submit({**body, "id": "first"}, alice)
        internet.answer = reply(png(7, 3))
        again = await w.submit({**body, "id": "first"}, alice)
        assert again["prompt"]["id"] == first["prompt"]["id"] == "first"
        handle = AsyncPromptHandle(handle=FakeHandle(w.app.calls), user="alice", patience_s=0)
        await handle.submit({**body, "id": "second"})
        assert len(internet.requests) == len(await w.uploads(alice)) == 2
        for _ in range(2):
            await w.paint()
        assert [request.source.size for request in w.painter.requests if request.source] == [(5, 3), (7, 3)]


async def test_nothing_needs_no_words(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({"type": "Unconditional Image Generation"}, alice)
        await w.paint()
        (request,) = w.painter.requests
        assert (request.parameters.task, request.parameters.prompt) == (ImageTask.NOTHING, "")
        assert not request.parameters.guided
