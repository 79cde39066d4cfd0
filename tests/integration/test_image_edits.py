"""POST /v1/images/edits: what is refused, and what becomes of the image that was sent with it."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from pipeline.accounts import Account
from tests.integration.image_world import PAINTER, World, world
from tests.integration.ingress_app import token
from tests.waiting import until_true


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


async def edit(w: World, as_: Account, *images: bytes, **fields: str) -> httpx.Response:
    parts: list[Any] = [("image[]", ("a.png", content, "image/png")) for content in images]
    return await post(w, as_, data={"prompt": "a boat", **fields}, files=parts)


async def post(w: World, as_: Account, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=w.app.app), base_url="http://test") as client:
        sent = {"authorization": token(as_), **(headers or {})}
        return await client.post("/v1/images/edits", headers=sent, **body)


async def check_refused(w: World, as_: Account, answer: httpx.Response, message: str) -> None:
    """A 400 that says so, and leaves nothing behind."""
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"] == message
    assert await w.uploads(as_) == []
    assert (await w.queue.depth()).waiting == 0


async def test_an_edit_starts_from_an_image_that_stays_the_users(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        waiting = asyncio.create_task(edit(w, alice, png()))

        async def is_queued() -> bool:
            return (await w.queue.depth()).waiting == 1

        await until_true(is_queued)
        await w.paint()
        answer = await asyncio.wait_for(waiting, 10)
        assert answer.status_code == 200, answer.text
        assert base64.b64decode(answer.json()["data"][0]["b64_json"])
        (request,) = w.painter.requests
        assert request.source is not None
        # And the one that was painted.
        assert len(await w.uploads(alice)) == 2


@pytest.mark.parametrize(
    ("images", "fields", "message"),
    [
        ([b"words"], {}, "fileIds: the image is in another format, allowed are PNG, JPEG, WEBP"),
        (
            [png()],
            {"model": "org/small"},
            "modelId: the model org/small lacks the capability image-to-image, which Image-to-Image needs; "
            f"models that have it: {PAINTER}",
        ),
        ([png()] * 2, {}, "image: got 2 images, allowed is one image to start from, as a file"),
        ([png()] * 4, {}, "image: got 4 images, allowed is one image to start from, as a file"),
        ([png()], {"prompt": "a\0b"}, "prompt: got NUL or half a surrogate pair, allowed is text without them"),
    ],
    ids=["text", "model", "two", "four", "nul"],
)
async def test_a_refused_edit_leaves_no_image_behind(
    redis_url: str, images: list[bytes], fields: dict[str, str], message: str
) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await check_refused(w, alice, await edit(w, alice, *images, **fields), message)


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "nonsense"])
async def test_a_form_is_in_utf_8(redis_url: str, charset: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        body = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part
            for part in [(b"prompt", b"a boat"), (b"x", b"\\ud800"), (b'image"; filename="a.png', png())]
        )
        headers = {"content-type": f"multipart/form-data; boundary=b; charset={charset}"}
        answer = await post(w, alice, headers, content=body + b"--b--\r\n")
        await check_refused(w, alice, answer, f"Content-Type: got the charset {charset}, allowed is utf-8")
