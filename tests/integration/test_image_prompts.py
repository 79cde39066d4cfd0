"""Image prompts through the whole route table on a real store, painted by a painter that does what the test says."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from PIL import Image

from deployments.replica.attempts import Outcome
from pipeline.delta import Delta, DeltaKind
from pipeline.engine import PaintStep
from pipeline.files import file_store
from pipeline.files.record import QuotaExceeded
from pipeline.store.attempts import FilesSwept
from tests.integration.image_world import BOAT, KEYS, PAINTER, world
from tests.waiting import until, until_true


async def test_a_picture_is_asked_for_painted_read_and_served(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice, bob = await w.app.user("alice"), await w.app.user("bob")
        prompt = (await w.submit({**BOAT, "id": "boat"}, alice))["prompt"]
        assert (prompt["modelId"], prompt["type"], prompt["status"]) == (PAINTER, "Text-to-Image", "scheduled")
        assert prompt["parameters"] == {"textToImage": {"seed": 7}}
        assert await w.paint() is Outcome.ENDED
        (request,) = w.painter.requests
        assert (request.parameters.prompt, request.parameters.seed) == ("a boat", 7)
        assert (request.parameters.width, request.parameters.height) == (64, 48)

        answer = await w.read("boat", alice)
        assert answer["prompt"]["status"] == "completed"
        message = answer["responseMessage"]
        (file_id,) = message["fileIds"]
        assert message["text"] == "Here is your image."
        assert message["meta"]["images"] == [{"fileId": file_id, "seed": 7}]
        served = await w.app.send("GET", f"/file-svc/serve/upload/{file_id}", as_=alice)
        assert served.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(served.content)) as image:
            assert image.info["parameters"].startswith("a boat\nSteps: 20,")
        (upload,) = await w.uploads(alice)
        assert (upload["fileId"], upload["fileName"], upload["fileSize"]) == (
            file_id,
            "boat-1.png",
            len(served.content),
        )
        assert await w.usage(alice) == {b"bytes": b"%d" % len(served.content), b"files": b"1"}

        # Somebody else's is like one that is not there.
        assert (await w.app.send("GET", f"/file-svc/serve/upload/{file_id}", as_=bob)).status_code == 404
        reply = await w.submit({"prompt": "x", "type": "Image-to-Image", "fileIds": [file_id]}, bob, 400)
        assert reply["error"] == f"fileIds: got '{file_id}', allowed is the ids of files of your own"


async def test_pictures_are_a_demand_by_pixels_and_steps(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({"prompt": "a boat", "parameters": {"textToImage": {"batchSize": 2, "steps": 30}}}, alice)
        depth = await w.queue.depth()
        assert depth.waiting == 1
        assert depth.demand == round(2 * 64 * 48 * 30 / (512 * 512 * 20), 3)


async def test_a_synchronous_prompt_comes_back_with_its_pictures(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        body = {"prompt": "a boat", "sync": True, "parameters": {"textToImage": {"batchSize": 2, "format": "webp"}}}
        waiting = asyncio.create_task(w.submit(body, alice))

        async def is_queued() -> bool:
            return (await w.queue.depth()).waiting == 1

        await until_true(is_queued)
        await w.paint(2)
        answer = await asyncio.wait_for(waiting, 10)
        assert answer["prompt"]["status"] == "completed"
        assert len(answer["responseMessage"]["fileIds"]) == 2
        assert answer["responseMessage"]["text"] == "Here are your 2 images."
        assert [upload["fileName"].split("-")[-1] for upload in await w.uploads(alice)] == ["2.webp", "1.webp"]


async def test_its_log_shows_steps_while_it_is_painted_and_only_its_end_afterwards(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({**BOAT, "id": "boat"}, alice)
        grant = await w.grant()
        running = asyncio.create_task(w.runner.run(grant.ref, grant.fence, False))
        await w.painter.started.wait()
        w.painter.steps.put_nowait(PaintStep(step=3, steps=20, preview=b"webp"))

        async def is_logged() -> list[Any]:
            return await w.log(grant.ref)

        (entry,) = await until_true(is_logged)
        assert (entry.delta.kind, entry.delta.step, entry.delta.steps) == (DeltaKind.STEP, 3, 20)
        assert entry.delta.preview == "d2VicA=="
        w.painter.finish()
        await asyncio.wait_for(running, 10)
        (end,) = await w.log(grant.ref)
        assert (end.number, end.delta.kind, end.delta.text) == (2, DeltaKind.END, "Here is your image.")
        assert list(end.file_ids) == (await w.read("boat", alice))["responseMessage"]["fileIds"]
        assert end.message_id == (await w.read("boat", alice))["responseMessage"]["id"]


async def test_text_and_pictures_share_a_thread_and_a_picture_needs_no_history(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.app.send("POST", "/chat-svc/thread", {"thread": {"id": "t"}, "conversation": True}, as_=alice)
        text = (await w.submit({"prompt": "hello", "threadId": "t"}, alice))["prompt"]
        picture = (await w.submit({**BOAT, "threadId": "t"}, alice))["prompt"]
        assert (text["modelId"], picture["modelId"]) == ("org/small", PAINTER)
        # The text is unanswered; the picture is painted all the same.
        assert await w.paint() is Outcome.ENDED
        page = (await w.app.send("POST", "/chat-svc/messages", {"threadId": "t"}, as_=alice)).json()["messages"]
        assert [bool(message.get("fileIds")) for message in page] == [False, False, True]
        refused = await w.submit({**BOAT, "threadId": "t", "history": True}, alice, 400)
        assert (
            refused["error"]
            == "history: got true, allowed is false with org/painter, which paints the new prompt alone"
        )


async def test_an_attempt_that_died_between_its_files_and_its_end_leaves_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({**BOAT, "id": "boat"}, alice)
        first = await w.grant()
        claimed = await w.attempts.claim(first.ref, first.fence, replica="dead", lease_s=60, fingerprint="hand")
        await w.attempts.append([(first.ref, first.fence, 1, Delta(kind=DeltaKind.STEP, step=1, steps=20))])
        monkeypatch.setattr(file_store, "MADE_S", 0.0)
        half = await w.files.make(alice.id, b"half a picture", "image/png", "boat.png")
        assert claimed.pictures is not None
        # It is nobody's: neither listed nor served, and the user's space holds it only until it is swept.
        assert await w.uploads(alice) == []
        assert (await w.app.send("GET", f"/file-svc/serve/upload/{half.id}", as_=alice)).status_code == 404
        assert (await w.usage(alice))[b"files"] == b"1"

        assert await w.queue.lose(first.ref, first.fence, ["n"])
        monkeypatch.setattr(file_store, "MADE_S", 1800.0)
        assert await w.paint() is Outcome.ENDED
        answer = await w.read("boat", alice)
        assert len(answer["responseMessage"]["fileIds"]) == 1
        assert half.id not in answer["responseMessage"]["fileIds"]
        # The one that came back from the dead changes nothing.
        late = await w.attempts.finish(
            first.ref,
            first.fence,
            message_id="msg-late",
            text="late",
            meta_json="{}",
            end=Delta(kind=DeltaKind.END),
            files=[half],
        )
        assert not late
        assert await w.files.sweep() == 1
        assert [upload["fileId"] for upload in await w.uploads(alice)] == answer["responseMessage"]["fileIds"]
        assert (await w.usage(alice))[b"files"] == b"1"


async def test_files_that_were_swept_do_not_end_a_prompt_and_those_that_ended_one_stay(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({**BOAT, "id": "boat"}, alice)
        grant = await w.grant()
        await w.attempts.claim(grant.ref, grant.fence, replica="replica", lease_s=60, fingerprint="hand")
        gone, kept = [await w.files.make(alice.id, b"pixels", "image/png", "a.png") for _ in range(2)]
        await w.files.unmake([gone])

        async def finish(*files: Any) -> bool:
            return await w.attempts.finish(
                grant.ref,
                grant.fence,
                message_id="msg-1",
                text="",
                meta_json="{}",
                end=Delta(kind=DeltaKind.END),
                files=files,
            )

        with pytest.raises(FilesSwept):
            await finish(kept, gone)
        assert (await w.read("boat", alice))["prompt"]["status"] == "running"
        assert await w.uploads(alice) == []
        assert await finish(kept)
        # The reply was lost and the call is sent again; whoever thinks it failed clears up in vain.
        assert not await finish(kept)
        await w.files.unmake([kept])
        assert [upload["fileId"] for upload in await w.uploads(alice)] == [kept.id]


async def test_a_retry_says_that_it_starts_again_and_paints_the_same_seed(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({"prompt": "a boat", "id": "boat", "type": "Text-to-Image"}, alice)
        first = await w.grant()
        claimed = await w.attempts.claim(first.ref, first.fence, replica="dead", lease_s=60, fingerprint="hand")
        await w.attempts.append([(first.ref, first.fence, 1, Delta(kind=DeltaKind.STEP, step=1, steps=20))])
        await w.queue.lose(first.ref, first.fence, ["n"])
        grant = await w.grant()
        running = asyncio.create_task(w.runner.run(grant.ref, grant.fence, False))
        await w.painter.started.wait()
        assert [entry.delta.kind for entry in await w.log(grant.ref)] == [DeltaKind.STEP, DeltaKind.RESTART]
        assert claimed.pictures is not None
        assert w.painter.requests[0].parameters == claimed.pictures.parameters
        w.painter.finish()
        await asyncio.wait_for(running, 10)


async def test_a_cancelled_picture_leaves_no_file(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({**BOAT, "id": "boat"}, alice)
        grant = await w.grant()
        running = asyncio.create_task(w.runner.run(grant.ref, grant.fence, False))
        await w.painter.started.wait()
        await w.app.send("DELETE", "/prompt-svc/prompt/boat", as_=alice)
        await w.runner.look_again(grant.ref)
        assert await asyncio.wait_for(running, 10) is Outcome.STALE
        await until(w.painter.closed.is_set)
        assert await w.uploads(alice) == []
        assert await w.usage(alice) == {}


async def test_a_picture_counts_towards_what_its_user_may_keep(redis_url: str) -> None:
    async with world(redis_url, user_bytes=50) as w:
        alice = await w.app.user("alice")
        with pytest.raises(QuotaExceeded):
            await w.files.make(alice.id, b"x" * 51, "image/png", "a.png")
        await w.submit({**BOAT, "id": "boat"}, alice)
        await w.paint()
        prompt = (await w.read("boat", alice))["prompt"]
        assert prompt["status"] == "abandoned"
        assert prompt["error"] == "the picture cannot be kept: the user's files would take more than 50 bytes"
        assert await w.usage(alice) == {}


async def test_what_an_attempt_makes_is_no_upload_of_the_users(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        made = [await w.files.make(alice.id, b"pixels", "image/png", "a.png") for _ in range(10)]
        assert (await w.app.upload(b"words", as_=alice)).status_code == 200
        await w.files.unmake(made)
        assert len(await w.uploads(alice)) == 1


async def test_erasing_a_prompt_leaves_its_pictures_to_its_user(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        await w.submit({**BOAT, "id": "boat"}, alice)
        await w.paint()
        (file_id,) = (await w.read("boat", alice))["responseMessage"]["fileIds"]
        await w.app.send("DELETE", "/prompt-svc/prompt/boat", as_=alice)
        assert (await w.app.send("GET", f"/file-svc/serve/upload/{file_id}", as_=alice)).status_code == 200
        assert (await w.app.send("DELETE", f"/file-svc/upload/{file_id}", as_=alice)).status_code == 200


async def test_the_same_id_again_is_the_same_prompt_with_the_same_seed(redis_url: str) -> None:
    async with world(redis_url) as w:
        alice = await w.app.user("alice")
        body = {"prompt": "a boat", "id": "boat", "type": "Text-to-Image"}
        await w.submit(body, alice)
        stored = await w.client.hget(KEYS.prompt(f"{alice.id}/boat"), "image")
        await w.submit(body, alice)
        assert await w.client.hget(KEYS.prompt(f"{alice.id}/boat"), "image") == stored
        assert (await w.queue.depth()).waiting == 1
